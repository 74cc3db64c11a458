"""Values made from shapes, and botocore as the client at the other end of the wire."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode

import botocore.session
from botocore.awsrequest import HeadersDict
from botocore.model import OperationModel, ServiceModel, Shape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from clary.wire.http import Request, Response

MOMENT = datetime(2024, 5, 1, 10, 30, 15, tzinfo=UTC)
TEXT = 'é<&> "1"\r\n\t,;'


@cache
def model(service: str) -> ServiceModel:
    return session().get_service_model(service)


@cache
def session() -> botocore.session.Session:
    return botocore.session.Session()


def sample(shape: Shape, *, full: bool, stack: tuple[str, ...] = (), plain: bool = False) -> Any:
    """A value of the shape: with every member, or with the required ones alone.

    A `plain` one is fit for a header; a shape inside itself is cut short.
    """
    match shape.type_name:
        case "structure":
            return structure(shape, full=full, stack=stack)
        case "list":
            if shape.name in stack:
                return []
            inner = (*stack, shape.name)
            count = 2 if full else 1
            return [sample(shape.member, full=full, stack=inner, plain=plain)] * count
        case "map":
            if shape.name in stack:
                return {}
            keys = shape.key.metadata.get("enum") or ["key-1", "key-2"]
            inner = (*stack, shape.name)
            value = sample(shape.value, full=full, stack=inner, plain=plain)
            return dict.fromkeys(keys[: 2 if full else 1], value)
        case "string" | "character":
            enum = shape.metadata.get("enum")
            return enum[0] if enum else ("a b/c" if plain else TEXT)
    return {
        "integer": 7,
        "long": 2**40,
        "float": 1.5,
        "double": -0.1,
        "boolean": full,
        "blob": b"\x00\xff bytes",
        "timestamp": MOMENT,
    }[shape.type_name]


def structure(shape: Any, *, full: bool, stack: tuple[str, ...]) -> dict[str, Any]:
    if shape.is_document_type:
        return {"any": ["thing", 1, None, {"deep": 1.5}]}
    inner = (*stack, shape.name)
    names = list(shape.members) if full and shape.name not in stack else shape.required_members
    if shape.is_tagged_union:
        names = list(shape.members)[:1]
    return {
        name: "host-1"
        if shape.members[name].serialization.get("hostLabel")
        else sample(
            shape.members[name],
            full=full and len(stack) < 12,
            stack=inner,
            plain="location" in shape.members[name].serialization,
        )
        for name in names
        if stack.count(shape.name) < 3
    }


def request_by_botocore(protocol: str, operation: OperationModel, parameters: Any) -> Request:
    made = create_serializer(protocol, include_validation=False).serialize_to_request(
        parameters, operation
    )
    path, _, query = made["url_path"].partition("?")
    extra = made["query_string"]
    if extra:
        query = "&".join(part for part in (query, urlencode(extra, doseq=True)) if part)
    body = made["body"]
    return Request(
        method=made["method"],
        path=path,
        query=query,
        headers={name.lower(): str(value) for name, value in made["headers"].items()},
        body=urlencode(body).encode() if isinstance(body, dict) else body,
    )


def answer_to_botocore(
    protocol: str, operation: OperationModel, response: Response, shape: Any = None
) -> dict[str, Any]:
    """What boto3 would hand to its caller."""
    streaming = operation.has_streaming_output and response.status < 300
    raw = {
        "headers": HeadersDict(response.headers),
        "status_code": response.status,
        "body": io.BytesIO(response.body) if streaming else response.body,
        "context": {"operation_name": operation.name},
    }
    found = create_parser(protocol).parse(raw, shape or operation.output_shape)
    if streaming and operation.output_shape is not None:
        name = operation.output_shape.serialization["payload"]
        found[name] = found[name].read()
    return found
