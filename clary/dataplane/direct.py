"""Small invocations, from the bytes of a connection to the bytes of the answer.

An HTTP server framework costs more than everything else that the door does for such a request. What
is not plainly an InvokeEndpoint with a small body, whole and well-formed, is left to it: `parse`
returns None, and nothing has happened yet.
"""

from __future__ import annotations

import logging
import re
import time
from http import HTTPStatus
from typing import Protocol

from clary.dataplane.answers import Headers, error_answer
from clary.dataplane.invocation import Invocation
from clary.dataplane.invocations import PASSED_TO_CLIENT, Invocations
from clary.dataplane.lanes import AnswerHead
from clary.dataplane.request_ids import unique_id
from clary.model.errors import ApiError, InternalFailure
from clary.wire.http import Request
from clary.wire.sigv4 import scope_of

log = logging.getLogger(__name__)

START = b"POST /endpoints/"
HEAD_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 64 * 1024  # larger ones are counted against the memory of all bodies together
REMEMBERED_MAX = 1024
LINE_REMEMBERED_MAX = 2048
CLOSE = b"connection: close\r\n"

_REQUEST_LINE = re.compile(
    r"POST (/endpoints/([a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62})/invocations) HTTP/1\.1\r"
)
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Headers of which a client's next request has the same line.
_REPEATED = frozenset(
    (
        *("host", "user-agent", "accept", "accept-encoding", "content-type", "content-length"),
        *("connection", "amz-sdk-request", "x-amz-security-token"),
    )
)
_EXPECTED = _REPEATED | frozenset(
    (
        *("authorization", "x-amz-date", "x-amz-content-sha256"),
        *("amz-sdk-invocation-id", "x-amzn-sagemaker-inference-id"),
    )
)
# The meaning of these reaches beyond one header, so the framework reads them.
_LEFT_TO_OTHERS = frozenset(("transfer-encoding", "expect", "upgrade", "proxy-connection"))


class Call:
    """A parsed head: all that is needed of it but the body."""

    __slots__ = ("body_at", "headers", "keep_alive", "name", "path", "region", "size")

    def __init__(
        self, path: str, name: str, region: str, headers: dict[str, str], body_at: int, length: int
    ) -> None:
        self.path = path
        self.name = name
        self.region = region
        self.headers = headers
        self.body_at = body_at
        self.size = body_at + length
        self.keep_alive = "close" not in headers.get("connection", "").lower()


class Client(Protocol):
    """The connection that an answer goes to."""

    def reply(self, data: bytes) -> None: ...


class DirectInvocations:
    """Parses and answers; one for all connections."""

    def __init__(self, invocations: Invocations) -> None:
        self.invocations = invocations
        self._targets: dict[str, tuple[str, str]] = {}
        self._lines: dict[str, tuple[str, str]] = {}  # headers that clients send again and again

    def parse(self, data: bytes) -> Call | None:
        """The call that `data` begins with; its body may not be complete."""
        end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
        if end < 0:
            return None
        # One byte is found much faster than two: every line keeps its carriage return.
        lines = data[: end + 1].decode("latin-1").split("\n")
        target = self._targets.get(lines[0]) or self._target(lines[0])
        if target is None:
            return None
        headers: dict[str, str] = {}
        known = self._lines
        for line in lines[1:]:
            pair = known.get(line) or self._header(line)
            if pair is None or pair[0] in headers:
                return None
            headers[pair[0]] = pair[1]
        length = headers.get("content-length", "")
        if not length.isascii() or not length.isdigit() or len(length) > 6:
            return None
        size = int(length)
        if size > BODY_BYTES_MAX or not _LEFT_TO_OTHERS.isdisjoint(headers):
            return None
        scope = scope_of(_credential(headers.get("authorization", "")))
        if scope is None or scope.service != "sagemaker":
            return None
        return Call(*target, scope.region, headers, end + 4, size)

    def answer(self, call: Call, body: bytes, peer: str, client: Client) -> None:
        """Answer a call; the client is told once, now or later."""
        started = time.perf_counter()
        request = Request("POST", call.path, "", call.headers, body, peer)

        def done(invocation: Invocation, outcome: AnswerHead | ApiError, content: bytes) -> None:
            if isinstance(outcome, ApiError):
                client.reply(_error(call, outcome))
            else:
                client.reply(_success(call, invocation, outcome, content))

        try:
            self.invocations.begin(call.region, call.name, request, started, done)
        except ApiError as problem:
            client.reply(_error(call, problem))
        except Exception:
            log.exception("the door failed on %s", call.path)
            text = "The request failed inside Clary; see the log of the door."
            client.reply(_error(call, InternalFailure(text)))

    def _target(self, line: str) -> tuple[str, str] | None:
        """The path and the endpoint's name in a request line."""
        found = _REQUEST_LINE.fullmatch(line)
        if found is None:
            return None
        if len(self._targets) >= REMEMBERED_MAX:
            self._targets.clear()
        target = self._targets[line] = (found[1], found[2])
        return target

    def _header(self, line: str) -> tuple[str, str] | None:
        """Name in lower case and value; None where the line is not plainly a header's.

        Control characters, bare line feeds among them, are not printable; nor are tabs.
        """
        name, colon, value = line[:-1].partition(":")
        lower = name.lower()
        if not colon or not line.endswith("\r") or not value.isprintable():
            return None
        if lower not in _EXPECTED and not _NAME.fullmatch(name):
            return None
        pair = (lower, value.strip(" "))
        if lower in _REPEATED and len(line) <= LINE_REMEMBERED_MAX:
            if len(self._lines) >= REMEMBERED_MAX:
                self._lines.clear()
            self._lines[line] = pair
        return pair


def _credential(authorization: str) -> str:
    """The scope that a signature names: AWS4-HMAC-SHA256 Credential=<scope>, SignedHeaders=..."""
    start = authorization.find("Credential=") + len("Credential=")
    return authorization[start : authorization.find(",", start)].strip()


def _success(call: Call, invocation: Invocation, head: AnswerHead, content: bytes) -> bytes:
    # The head of an answer is shared by all that are alike, and so is what the client gets of it.
    passed = head.rendered
    if not passed:
        pairs = [pair for pair in head.headers if pair[0] in PASSED_TO_CLIENT]
        passed = head.rendered = b"HTTP/1.1 200 OK\r\n" + _lines(pairs)
    return (
        b"%bx-amzn-invoked-production-variant: %b\r\n%bx-amzn-requestid: %b\r\n"
        b"content-length: %d\r\n\r\n%b"
    ) % (
        passed,
        invocation.variant.name.encode(),
        b"" if call.keep_alive else CLOSE,
        unique_id().encode(),
        len(content),
        content,
    )


def _error(call: Call, problem: ApiError) -> bytes:
    status, headers, body = error_answer(problem)
    return b"HTTP/1.1 %d %b\r\n%b%bcontent-length: %d\r\n\r\n%b" % (
        status,
        _reason(status),
        _lines(headers),
        b"" if call.keep_alive else CLOSE,
        len(body),
        body,
    )


def _lines(headers: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Error"
