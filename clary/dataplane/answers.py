"""The door's own answers: AWS-shaped errors and small JSON documents, sent over ASGI."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from xml.sax.saxutils import escape

from clary.model.errors import ApiError

Message = dict[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
CLOSE = b"connection: close\r\n"


async def send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a response whose body is known; `headers` must not hold a Content-Length."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, document: Any) -> None:
    body = json.dumps(document).encode()
    await send_whole(send, status, [(b"content-type", b"application/json")], body)


async def send_error(scope: Scope, send: Send, error: ApiError) -> None:
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    status, headers, body = worded(error, kinds[0].decode("latin-1") if kinds else "")
    await send_whole(send, status, headers, body)


def worded(error: ApiError, content_type: str) -> tuple[int, Headers, bytes]:
    """An error in the protocol that a request of this type speaks: the query protocol wants XML."""
    if content_type.startswith("application/x-www-form-urlencoded"):
        return _query_error(error)
    return error_answer(error)


def error_answer(error: ApiError) -> tuple[int, Headers, bytes]:
    """Status, headers without a length, and body of an error in the JSON protocols."""
    document = {"__type": error.code, "message": error.message, "Message": error.message}
    headers: Headers = [
        (b"x-amzn-requestid", _request_id(error).encode()),
        (b"content-type", b"application/json"),
        (b"x-amzn-errortype", error.code.encode()),
    ]
    return error.status, headers, json.dumps({**document, **error.members}).encode()


def _request_id(error: ApiError) -> str:
    return error.request_id or str(uuid.uuid4())


def _query_error(error: ApiError) -> tuple[int, Headers, bytes]:
    request_id = _request_id(error)
    kind = "Sender" if error.status < 500 else "Receiver"
    body = (
        f"<ErrorResponse><Error><Type>{kind}</Type><Code>{escape(error.code)}</Code>"
        f"<Message>{escape(error.message)}</Message></Error>"
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()
    headers: Headers = [
        (b"x-amzn-requestid", request_id.encode()),
        (b"content-type", b"text/xml"),
    ]
    return error.status, headers, body


def rendered(status: int, headers: Headers, body: bytes, *, keep_alive: bool) -> bytes:
    """A whole answer as it goes over the connection; `headers` must not hold a Content-Length."""
    return b"HTTP/1.1 %d %b\r\n%b%bcontent-length: %d\r\n\r\n%b" % (
        status,
        reason(status),
        header_lines(headers),
        b"" if keep_alive else CLOSE,
        len(body),
        body,
    )


def header_lines(headers: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])


@lru_cache(128)
def reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Error"
