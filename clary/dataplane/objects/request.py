"""One S3 request as the operations see it, and their answer."""

from __future__ import annotations

import base64
import random
import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import unquote_plus, unquote_to_bytes

from clary.dataplane.answers import Receive, Scope
from clary.identity.authenticate import Caller
from clary.identity.principals import Principal, anonymous_principal
from clary.model.errors import ApiError
from clary.store.object_buckets import Bucket
from clary.wire.http import Request

VIRTUAL_HOST = re.compile(
    r"(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\.s3(?:[.-](?:dualstack\.)?[a-z0-9-]+)?"
    r"\.(?:amazonaws\.com(?:\.cn)?|localhost)(?::\d+)?"
)
# x-amz-id-2 tells which host answered: here, which process.
HOST_ID = base64.b64encode(secrets.token_bytes(48)).decode("ascii")


@dataclass(slots=True)
class S3Request:
    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    wire: Request  # as received, for the signature
    receive: Receive
    secure: bool = False
    received: bool = False  # whether any of the body was asked for
    caller: Caller | None = None
    found: Bucket | None = None  # the bucket as it was when the caller's rights were looked at
    request_id: str = field(default_factory=lambda: f"{random.getrandbits(64):016X}")
    host_id: str = HOST_ID

    @property
    def principal(self) -> Principal:
        return self.caller.principal if self.caller else anonymous_principal()

    @property
    def version_id(self) -> str:
        return self.query.get("versionId", "")

    @property
    def leaves_body_unread(self) -> bool:
        """Whether the client may go on with a body that nobody asked for, or wait and never send it: either way
        what comes next on the connection cannot be told from it."""
        if self.received:
            return False
        large = len(self.headers.get("content-length", "")) > 6
        return large or "expect" in self.headers or "transfer-encoding" in self.headers

    def header(self, name: str, default: str = "") -> str:
        return self.headers.get(name, default)


@dataclass(slots=True)
class Answer:
    """A status, headers and a body: bytes, or a range of an open file, which is closed when sent."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    descriptor: int | None = None
    start: int = 0
    length: int = 0


def parse(scope: Scope, receive: Receive) -> S3Request:
    """Read the head of a request; raise as `s3_request`."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    path = scope["raw_path"].decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    client = scope.get("client")
    peer = client[0] if client else "127.0.0.1"
    wire = Request(scope["method"], path, query, headers, peer=peer)
    return s3_request(wire, headers, receive, secure=scope.get("scheme") == "https")


def s3_request(
    wire: Request, headers: dict[str, str], receive: Receive, *, secure: bool
) -> S3Request:
    """A request as S3 sees it; raise InvalidURI for a key that is not UTF-8."""
    bucket, key = bucket_and_key(wire.path, headers.get("host", ""))
    query = parameters(wire.query) if wire.query else {}
    return S3Request(wire.method, bucket, key, query, headers, wire, receive, secure=secure)


def bucket_and_key(path: str, host: str) -> tuple[str, str]:
    found = VIRTUAL_HOST.fullmatch(host.lower()) if ".s3" in host else None
    try:
        text = unquote_to_bytes(path).decode() if "%" in path else _as_utf8(path)
    except UnicodeDecodeError as problem:
        raise invalid_uri(path) from problem
    if found:
        return found["bucket"], text[1:]
    bucket, _, key = text[1:].partition("/")
    return bucket, key


def invalid_uri(path: str) -> ApiError:
    return ApiError("Couldn't parse the specified URI.", code="InvalidURI", status=400, URI=path)


def _as_utf8(path: str) -> str:
    return path if path.isascii() else path.encode("latin-1").decode()


def parameters(query: str) -> dict[str, str]:
    """Decoded query parameters; one without a value is empty, of repeated ones the first counts."""
    found: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name:
            found.setdefault(_decoded(name), _decoded(value))
    return found


def _decoded(text: str) -> str:
    return unquote_plus(text) if "%" in text or "+" in text else text
