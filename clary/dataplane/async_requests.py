"""One asynchronous invocation: what the client asked for, and the form in which it waits on disk."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson

from clary.dataplane.invocation_errors import validation_error
from clary.dataplane.request_ids import unique_id
from clary.dataplane.routes import EndpointRoute
from clary.wire.http import Request

PREFIX = "x-amzn-sagemaker-"
TTL_SECONDS = (60, 21_600)
TIMEOUT_SECONDS = (1, 3_600)
TIMEOUT_SECONDS_DEFAULT = 900
INLINE_BYTES_MAX = 128_000
ATTEMPTS_MAX = 3  # a request that takes the door down with it is not tried for ever

_S3_URI = re.compile(r"(?:https|s3)://[^/]+/.+")
_INFERENCE_ID = re.compile(r"\S[\x20-\x7e]{0,63}")
_FILE_NAME = re.compile(r"(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9_.-]{0,31}")
_EXTENSION = re.compile(r"(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]{1,512}")


@dataclass(frozen=True, slots=True)
class AsyncRequest:
    id: str
    endpoint: str
    input: str  # an S3 URI; empty where the payload came along
    inline: str  # the payload in base64, where it came along
    output: str  # S3 URIs
    failure: str
    received: float
    ttl_seconds: int
    timeout_seconds: int
    inference_id: str
    headers: dict[str, str]  # for the container
    attempt: int = 1

    def payload(self) -> bytes:
        return base64.b64decode(self.inline)

    def again(self) -> AsyncRequest:
        return replace(self, attempt=self.attempt + 1)

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self))

    @staticmethod
    def from_json(text: bytes) -> AsyncRequest:
        """Raise ValueError or TypeError for anything that `to_json` did not write."""
        return AsyncRequest(**orjson.loads(text))


def parse_request(route: EndpointRoute, request: Request, now: float) -> AsyncRequest:
    """What a client asked for; raise ValidationError in the service's words."""
    headers = request.headers
    place = headers.get(f"{PREFIX}inputlocation", "")
    if bool(place) == bool(request.body):
        raise validation_error("Give either an InputLocation or a Body, but not both.")
    if place and not _S3_URI.fullmatch(place):
        raise validation_error(f"Invalid InputLocation {place[:256]!r}: it is not an S3 URI.")
    if len(request.body) > INLINE_BYTES_MAX:
        raise validation_error(
            f"The Body of an asynchronous invocation has at most {INLINE_BYTES_MAX} bytes; "
            "put it to Amazon S3 and give its InputLocation."
        )
    inference_id = headers.get(f"{PREFIX}inference-id") or unique_id()
    _matches("InferenceId", inference_id, _INFERENCE_ID)
    number = unique_id()
    output, failure = _places(route, headers, number)
    return AsyncRequest(
        id=number,
        endpoint=route.name,
        input=place,
        inline=base64.b64encode(request.body).decode(),
        output=output,
        failure=failure,
        received=now,
        ttl_seconds=_seconds(headers, "RequestTTLSeconds", TTL_SECONDS, TTL_SECONDS[1]),
        timeout_seconds=_seconds(
            headers, "InvocationTimeoutSeconds", TIMEOUT_SECONDS, TIMEOUT_SECONDS_DEFAULT
        ),
        inference_id=inference_id,
        headers=_for_container(headers, inference_id),
    )


def _places(route: EndpointRoute, headers: Mapping[str, str], number: str) -> tuple[str, str]:
    """Where the answer will be, or what went wrong."""
    settings = route.inference
    bucket = f"s3://sagemaker-{route.region}-{route.account}"
    output = settings.output if settings else ""
    output = output or f"{bucket}/async-endpoint-outputs/{route.name}"
    failure = settings.failure if settings else ""
    failure = failure or f"{output}/async-endpoint-failures"
    extension = headers.get(f"{PREFIX}s3outputpathextension", "")
    if extension:
        _matches("S3OutputPathExtension", extension, _EXTENSION)
        output = f"{output}/{extension.strip('/')}"
    name = headers.get(f"{PREFIX}filename", "")
    if name:
        _matches("Filename", name, _FILE_NAME)
    return f"{output}/{name or number + '.out'}", f"{failure}/{route.name}/{number}-error.out"


def _for_container(headers: Mapping[str, str], inference_id: str) -> dict[str, str]:
    """The headers of the request as the container of a synchronous endpoint would see them."""
    wanted = {
        "content-type": headers.get(f"{PREFIX}content-type", ""),
        "accept": headers.get(f"{PREFIX}accept", ""),
        f"{PREFIX}custom-attributes": headers.get(f"{PREFIX}custom-attributes", ""),
        f"{PREFIX}inference-id": inference_id,
    }
    return {name: value for name, value in wanted.items() if value}


def _seconds(headers: Mapping[str, str], member: str, bounds: tuple[int, int], default: int) -> int:
    text = headers.get(PREFIX + member.lower(), "")
    if not text:
        return default
    low, high = bounds
    if not text.isascii() or not text.isdigit() or not low <= int(text[:9]) <= high:
        raise validation_error(f"{member} must be between {low} and {high}, not {text[:32]!r}.")
    return int(text)


def _matches(member: str, value: str, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(value):
        raise validation_error(
            f"1 validation error detected: Value '{value[:256]}' at '{member}' failed to satisfy "
            f"constraint: Member must satisfy regular expression pattern: {pattern.pattern}"
        )


def notification(
    request: AsyncRequest,
    region: str,
    *,
    problem: str = "",
    content_type: str = "",
    response: bytes | None = None,
) -> dict[str, Any]:
    """The message to a topic; `response` where the topic is to carry it."""
    document: dict[str, Any] = {
        "awsRegion": region,
        "eventTime": _iso(time.time()),
        "receivedTime": _iso(request.received),
        "invocationStatus": "Failed" if problem else "Completed",
        "requestParameters": {"endpointName": request.endpoint},
    }
    if problem:
        document["failureReason"] = problem
    asked: dict[str, str] = document["requestParameters"]
    if "content-type" in request.headers:
        asked["contentType"] = request.headers["content-type"]
    if request.input:
        asked["inputLocation"] = request.input
    answered = {"contentType": content_type} if content_type else {}
    if problem:
        answered["failureLocation"] = request.failure
    else:
        answered["outputLocation"] = request.output
    document["responseParameters"] = answered
    if response is not None:
        document["responseBody"] = _embedded(response, content_type)
    document |= {
        "inferenceId": request.inference_id,
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }
    return document


def _embedded(response: bytes, content_type: str) -> dict[str, str]:
    try:
        content, encoding = response.decode(), "UTF-8"
    except UnicodeDecodeError:
        content, encoding = base64.b64encode(response).decode(), "BASE64"
    return {"content": content, "encoding": encoding, "observedContentType": content_type}


def _iso(moment: float) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return f"{stamp}.{int(moment * 1000) % 1000:03d}Z"
