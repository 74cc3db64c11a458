"""Which part of Clary answers a request, told from its raw head alone.

Only routing is decided here. Whoever answers verifies the signature; a lie about the service in the
credential scope leads to a signature that does not match.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

Headers = list[tuple[bytes, bytes]]

SCOPE = re.compile(
    rb"Credential=[^/,\s]+/\d{8}/(?:([a-z0-9-]+)/)?([a-z0-9.-]+)/aws4_request", re.IGNORECASE
)
QUERY_SCOPE = re.compile(
    rb"X-Amz-Credential=[^&]+?(?:%2F|/)\d{8}(?:%2F|/)(?:([a-z0-9-]+?)(?:%2F|/))?([a-z0-9.-]+?)"
    rb"(?:%2F|/)aws4_request",
    re.IGNORECASE,
)
INVOCATION = re.compile(
    rb"/endpoints/([^/]+)/(invocations|invocations-response-stream|async-invocations)/?\Z"
)
S3_HOST = re.compile(
    rb"(?:^|\.)s3(?:[.-][a-z0-9-]+)*\.(?:amazonaws\.com(?:\.cn)?|localhost)(?::\d+)?\Z"
)
S3_MARKS = (b"x-amz-checksum-mode", b"x-amz-acl", b"x-amz-copy-source", b"x-amz-content-sha256")


class Destination(Enum):
    INTERNAL = "internal"  # Clary's own routes under /_clary/
    OBJECTS = "objects"
    INVOCATION = "invocation"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Route:
    destination: Destination
    region: str = ""
    endpoint: bytes = b""  # percent-encoded name
    action: bytes = b""  # "invocations" | "invocations-response-stream" | "async-invocations"


INTERNAL = Route(Destination.INTERNAL)
OBJECTS = Route(Destination.OBJECTS)
CONTROL = Route(Destination.CONTROL)


def route(scope: dict[str, Any]) -> Route:
    """Decide by Clary's own prefix, the service signed for, or the look of an unsigned request."""
    path: bytes = scope["raw_path"]
    if path.startswith(b"/_clary/"):
        return INTERNAL
    headers: Headers = scope["headers"]
    authorization = b""
    for name, value in headers:
        if name == b"authorization":
            authorization = value
            break
    query: bytes = scope["query_string"]
    if authorization:
        match = SCOPE.search(authorization)
    else:
        match = QUERY_SCOPE.search(query) if query else None
    if match is None:
        return OBJECTS if _looks_like_s3(authorization, query, headers) else CONTROL
    region, service = match.groups()
    if service in (b"s3", b"s3express"):
        return OBJECTS
    if service == b"sagemaker" and (found := INVOCATION.match(path)):
        return Route(
            Destination.INVOCATION, (region or b"").decode(), endpoint=found[1], action=found[2]
        )
    return CONTROL


def _looks_like_s3(authorization: bytes, query: bytes, headers: Headers) -> bool:
    """Anonymous access, and the signature version 2 that only S3 ever kept."""
    if authorization.startswith(b"AWS "):
        return True
    if b"AWSAccessKeyId=" in query and b"Signature=" in query:
        return True
    targeted = False
    marked = False
    for name, value in headers:
        if name == b"host" and S3_HOST.search(value.lower()):
            return True
        targeted = targeted or name == b"x-amz-target"
        marked = marked or name in S3_MARKS
    return marked and not targeted
