"""Shorthands for what tests ask of S3."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.dataplane.objects.conftest import Door


def refused(call: Callable[..., Any], **parameters: Any) -> tuple[str, int]:
    """The error code and status of a call that must fail."""
    try:
        call(**parameters)
    except ClientError as problem:
        answer = problem.response
        return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]
    raise AssertionError("the call succeeded")


def fetch(
    url: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """A bare HTTP request: status, headers, body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
    try:
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection.request(method, target, body, headers or {})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def signed(
    door: Door, method: str, target: str, body: bytes = b"", user: str = "admin"
) -> dict[str, str]:
    """The headers of a signed request to a path (and query) of the door."""
    request = AWSRequest(method, door.url + target, data=body)
    S3SigV4Auth(Credentials(*door.keys[user].values()), "s3", "us-east-1").add_auth(request)
    return dict(request.headers.items())
