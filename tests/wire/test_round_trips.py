"""Every operation of the services that clients call, with botocore at the other end."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.model import OperationModel

from clary.wire.protocols import ServiceWire
from tests.wire.samples import (
    answer_to_botocore,
    model,
    request_by_botocore,
    sample,
)

SERVICES = [
    ("sagemaker", "json"),
    ("sagemaker-runtime", "rest-json"),
    ("sagemaker-featurestore-runtime", "rest-json"),
    ("sagemaker-metrics", "rest-json"),
    ("sagemaker-a2i-runtime", "rest-json"),
    ("sagemaker-edge", "rest-json"),
    ("s3", "rest-xml"),
    ("sts", "query"),
    ("iam", "query"),
    ("logs", "json"),
    ("cloudwatch", "json"),
    ("cloudwatch", "query"),
    ("cloudwatch", "smithy-rpc-v2-cbor"),
    ("ecr", "json"),
    ("sqs", "json"),
    ("sns", "query"),
    ("lambda", "rest-json"),
    ("application-autoscaling", "json"),
    ("ec2", "ec2"),
    ("scheduler", "rest-json"),
    ("resource-groups", "rest-json"),
    ("resourcegroupstaggingapi", "smithy-rpc-v2-cbor"),
    ("kms", "json"),
    ("bedrock-runtime", "rest-json"),
]
# Operations of one method and path that only a host name, or nothing at all, tells apart; the
# deprecated ones also name two members alike.
AMBIGUOUS = {
    "GetBucketLifecycle",
    "PutBucketLifecycle",
    "GetBucketNotification",
    "PutBucketNotification",
    "ListDirectoryBuckets",
}


def operations(service: str) -> list[OperationModel]:
    found = model(service)
    return [found.operation_model(name) for name in found.operation_names]


def expected_input(protocol: str, operation: OperationModel, given: dict[str, Any]) -> Any:
    """What of an input botocore can send: forms have no empty structure, its XML no carriage return."""
    shape = operation.input_shape
    payload = shape.serialization.get("payload") if shape is not None else None
    if payload and shape.members[payload].serialization.get("streaming"):
        return {payload: b""} | given  # a payload that streams is there even when it is empty
    if payload and protocol == "rest-json" and shape.members[payload].type_name == "structure":
        return {payload: {}} | given  # botocore sends one that is absent as an empty object
    if payload and shape.members[payload].type_name == "string":
        return given  # as it is, not as XML
    return as_sent(protocol, given)


def as_sent(protocol: str, value: Any) -> Any:
    if isinstance(value, dict):
        sent = {key: as_sent(protocol, item) for key, item in value.items()}
        unsendable = ({}, []) if protocol == "ec2" else ({},) if protocol == "query" else ()
        return {key: item for key, item in sent.items() if item not in unsendable}
    if isinstance(value, list):
        items = [as_sent(protocol, item) for item in value]
        return [item for item in items if item != {} or protocol != "ec2"]
    if isinstance(value, str) and protocol == "rest-xml":
        return value.replace("\r\n", "\n")
    return value


@pytest.mark.parametrize(("service", "protocol"), SERVICES)
def test_an_input_that_botocore_writes_is_read_back_whole(service: str, protocol: str) -> None:
    wire = ServiceWire(model(service))
    for operation in operations(service):
        if operation.has_event_stream_input or operation.name in AMBIGUOUS:
            continue
        for full in (True, False):
            shape = operation.input_shape
            given = sample(shape, full=full) if shape is not None else {}
            request = request_by_botocore(protocol, operation, given)
            chosen = wire.protocol(request)
            assert chosen is wire.named(protocol)
            found, parsed = chosen.parse(request)
            assert found.name == operation.name
            assert parsed == expected_input(protocol, operation, given), operation.name


@pytest.mark.parametrize(("service", "protocol"), SERVICES)
def test_an_output_is_read_back_whole_by_botocore(service: str, protocol: str) -> None:
    wire = ServiceWire(model(service)).named(protocol)
    for operation in operations(service):
        if operation.has_event_stream_output or operation.name == "GetBucketLocation":
            continue
        if operation.name in AMBIGUOUS:
            continue
        for full in (True, False):
            shape = operation.output_shape
            given = sample(shape, full=full) if shape is not None else {}
            response = wire.serialise(operation, given, "request-1")
            parsed = answer_to_botocore(protocol, operation, response)
            metadata = parsed.pop("ResponseMetadata", {})
            if shape is not None:
                assert metadata["RequestId"] == "request-1"
            assert parsed == expected_output(shape, given, parsed), operation.name


def expected_output(shape: Any, given: dict[str, Any], parsed: dict[str, Any]) -> dict[str, Any]:
    """What botocore makes of it: it adds the status, an empty header map, and an empty payload."""
    expected = dict(given)
    if shape is None:
        return expected
    payload = shape.serialization.get("payload")
    for name, member in shape.members.items():
        location = member.serialization.get("location")
        if name in given:
            continue
        if location == "statusCode":
            expected[name] = parsed[name]
        elif location == "headers":
            expected[name] = {}
        elif name == payload:
            expected[name] = {"blob": b"", "string": ""}.get(member.type_name, {})
        elif member.serialization.get("name") == "Content-Type" and name in parsed:
            assert parsed[name] in ("application/octet-stream", "text/plain", "application/json")
            expected[name] = parsed[name]
    return expected
