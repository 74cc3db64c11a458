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
NAMES_REMEMBERED_MAX = 4096
CLOSE = b"connection: close\r\n"

_REQUEST_LINE = re.compile(
    r"POST (/endpoints/([a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62})/invocations) HTTP/1\.1"
)
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
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
        self._names: dict[str, str] = {}  # of headers, as sent: in lower case

    def parse(self, data: bytes) -> Call | None:
        """The call that `data` begins with; its body may not be complete."""
        end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
        if end < 0:
            return None
        lines = data[:end].decode("latin-1").split("\r\n")
        found = _REQUEST_LINE.fullmatch(lines[0])
        # One search for all control characters, be it a bare line feed or a tab.
        if found is None or not "".join(lines).isprintable():
            return None
        headers: dict[str, str] = {}
        names = self._names
        for line in lines[1:]:
            name, _, value = line.partition(":")
            key = names.get(name) or self._learn(name)
            if not key or key in headers:
                return None
            headers[key] = value.strip(" ")
        length = headers.get("content-length", "")
        if not length.isascii() or not length.isdigit() or len(length) > 6:
            return None
        size = int(length)
        if size > BODY_BYTES_MAX or not _LEFT_TO_OTHERS.isdisjoint(headers):
            return None
        scope = scope_of(_credential(headers.get("authorization", "")))
        if scope is None or scope.service != "sagemaker":
            return None
        return Call(found[1], found[2], scope.region, headers, end + 4, size)

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

    def _learn(self, name: str) -> str:
        """The lower case of a header's name; empty if it is not a name."""
        if not _NAME.fullmatch(name):
            return ""
        if len(self._names) >= NAMES_REMEMBERED_MAX:
            self._names.clear()
        lower = self._names[name] = name.lower()
        return lower


def _credential(authorization: str) -> str:
    """The scope that a signature names: AWS4-HMAC-SHA256 Credential=<scope>, SignedHeaders=..."""
    _, _, rest = authorization.partition("Credential=")
    return rest.partition(",")[0].strip()


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
