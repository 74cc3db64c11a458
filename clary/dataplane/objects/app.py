"""S3 in the door: an ASGI application that authenticates, authorises, and answers one S3 request.

head ─▶ operation ─▶ signature ─▶ bucket owner ─▶ policies ─▶ handler ─▶ answer
                                                              (reads the body)
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from typing import cast

from clary.dataplane.answers import Message, Receive, Scope, Send, reason
from clary.dataplane.bodies import ClientGone
from clary.dataplane.objects.cross_origin import allowed, preflight
from clary.dataplane.objects.errors import (
    access_denied,
    as_api_error,
    error_answer,
    error_document,
    not_implemented,
)
from clary.dataplane.objects.operations import Operation, find
from clary.dataplane.objects.request import Answer, S3Request, parse, s3_request
from clary.dataplane.objects.service import Authenticator, Authoriser, Service
from clary.dataplane.objects.xml import DECLARATION
from clary.dataplane.shortcuts import Call, Client
from clary.store.objects import Objects
from clary.wire.http import Request
from clary.wire.request_heads import Head

STREAM_BYTES = 1024 * 1024  # read and sent at a time
PATIENCE_SECONDS = 15.0  # of clients, before a sign of life; theirs usually lasts 60


class ObjectsApp:
    """Serves S3 from an object store; `close` it when the door stops."""

    def __init__(
        self,
        objects: Objects,
        *,
        account: str,
        region: str,
        authenticator: Authenticator,
        authoriser: Authoriser,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.service = Service(objects, account, region, authenticator, authoriser)
        self._patience = patience_seconds
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        self.service.pool.shutdown(wait=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = S3Request(scope["method"], "", "", {}, {}, None, receive)  # type: ignore[arg-type]
        try:
            request = parse(scope, receive)
            operation = admit(self.service, request)
            if operation is None:
                answer = preflight(self.service, request)
            elif operation.timed:
                await self._answer_in_time(operation, request, send)
                return
            else:
                answer = await self._perform(operation, request)
        except ClientGone:
            raise
        except Exception as problem:  # noqa: BLE001  the one place where S3's failures become answers
            answer = error_answer(as_api_error(problem, request), request)
        await self._send(request, answer, send)

    def answer_now(self, call: Call, data: bytes, peer: str, client: Client) -> bool:
        """The shortcut of a small request whose answer is small as well; see `Shortcut`."""
        head = call.head

        async def receive() -> Message:
            return {"type": "http.request", "body": data[head.body_at :], "more_body": False}

        wire = Request(head.method, head.path, head.query, head.headers, peer=peer)
        request = S3Request(head.method, "", "", {}, head.headers, wire, receive)
        try:
            request = s3_request(wire, head.headers, receive, secure=client.scheme == "https")
            operation = admit(self.service, request)
            if operation is None or operation.timed:
                return False
            answer = (
                self._perform(operation, request)
                if operation.threaded
                else operation.handler(self.service, request)
            )
            if not isinstance(answer, Answer):
                self._later(request, answer, head, client)
                return True
        except Exception as problem:  # noqa: BLE001  as in __call__
            answer = error_answer(as_api_error(problem, request), request)
        if answer.descriptor is not None:
            os.close(answer.descriptor)
            return False
        client.reply(self._rendered(request, answer, head))
        return True

    def _later(
        self, request: S3Request, work: Awaitable[Answer], head: Head, client: Client
    ) -> None:
        """Reply when the work is done."""

        async def finish() -> None:
            try:
                answer = await work
            except Exception as problem:  # noqa: BLE001  as in __call__
                answer = error_answer(as_api_error(problem, request), request)
            client.reply(self._rendered(request, answer, head))

        task = asyncio.get_running_loop().create_task(finish())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _rendered(self, request: S3Request, answer: Answer, head: Head) -> bytes:
        self._complete(request, answer)
        lines = [
            f"HTTP/1.1 {answer.status} {reason(answer.status).decode()}",
            f"x-amz-request-id: {request.request_id}",
            f"x-amz-id-2: {request.host_id}",
            *[f"{name}: {value}" for name, value in answer.headers.items()],
            *(() if head.keep_alive else ("connection: close",)),
            "\r\n",
        ]
        return "\r\n".join(lines).encode("latin-1", "replace") + answer.body

    async def _perform(self, operation: Operation, request: S3Request) -> Answer:
        if operation.threaded:
            return cast(
                Answer, await self.service.in_thread(operation.handler, self.service, request)
            )
        found = operation.handler(self.service, request)
        return found if isinstance(found, Answer) else await found

    async def _answer_in_time(self, operation: Operation, request: S3Request, send: Send) -> None:
        """Like S3, begin with 200 and white space when the work takes long; an error then comes in the body."""
        handler = cast(Awaitable[Answer], operation.handler(self.service, request))
        work = asyncio.ensure_future(handler)
        begun = False
        while not (await asyncio.wait([work], timeout=self._patience))[0]:
            message: dict[str, object] = {
                "type": "http.response.body",
                "body": b" ",
                "more_body": True,
            }
            if not begun:
                headers = {"content-type": "application/xml"}
                await send(_start(request, 200, headers))
                message["body"] = DECLARATION.encode()
                begun = True
            await send(message)
        try:
            answer = work.result()
        except ClientGone:
            raise
        except Exception as problem:  # noqa: BLE001  as in __call__
            known = as_api_error(problem, request)
            answer = error_answer(known, request)
            if begun:
                answer.body = error_document(known, request).encode()
        if not begun:
            await self._send(request, answer, send)
            return
        body = answer.body.removeprefix(DECLARATION.encode())
        await send({"type": "http.response.body", "body": body})

    def _complete(self, request: S3Request, answer: Answer) -> None:
        """Add the headers that follow from the others and from the body."""
        headers = answer.headers
        if answer.status not in (204, 304) and "content-length" not in headers:
            headers["content-length"] = str(len(answer.body))
        if answer.body and "content-type" not in headers:
            headers["content-type"] = "application/xml"
        if "origin" in request.headers and request.method != "OPTIONS" and request.bucket:
            headers.update(allowed(self.service, request, request.method))

    async def _send(self, request: S3Request, answer: Answer, send: Send) -> None:
        self._complete(request, answer)
        try:
            await send(_start(request, answer.status, answer.headers))
            if answer.descriptor is None:
                await send({"type": "http.response.body", "body": answer.body})
            else:
                await self._stream(answer, send)
        finally:
            if answer.descriptor is not None:
                os.close(answer.descriptor)

    async def _stream(self, answer: Answer, send: Send) -> None:
        """Send a range of a file; the next piece is read while one is sent."""
        assert answer.descriptor is not None
        descriptor, at, end = answer.descriptor, answer.start, answer.start + answer.length
        reading = self._read(descriptor, at, end)
        try:
            while at < end:
                piece = await reading
                if not piece:
                    raise OSError("an object became shorter while it was being sent")
                at += len(piece)
                if at < end:
                    reading = self._read(descriptor, at, end)
                await send({"type": "http.response.body", "body": piece, "more_body": at < end})
        finally:
            # The thread must be done with the descriptor before it is closed.
            await asyncio.wait([reading])

    def _read(self, descriptor: int, at: int, end: int) -> asyncio.Future[bytes]:
        loop = asyncio.get_running_loop()
        size = min(STREAM_BYTES, end - at)
        return loop.run_in_executor(self.service.pool, os.pread, descriptor, size, at)


def admit(service: Service, request: S3Request) -> Operation | None:
    """The operation, once the caller is known and allowed; None for a browser's preflight."""
    if request.method == "OPTIONS":
        return None
    operation, name = find(request)
    form = operation is not None and operation.name == "PostObject"
    headers = request.headers
    signed = "authorization" in headers or "X-Amz-" in request.wire.query
    if not form and (signed or "AWSAccessKeyId" in request.query):
        request.caller = service.authenticator.authenticate(
            request.wire, check_body=False, style="s3"
        )
    owner = headers.get("x-amz-expected-bucket-owner")
    if owner and owner != service.account:
        raise access_denied()
    if operation is None:
        if request.caller is None:
            raise access_denied()
        raise not_implemented(name)
    if operation.action:
        action = operation.action
        if operation.version_action and request.version_id:
            action = operation.version_action
        service.authorise(request, f"s3:{action}", request.bucket, request.key)
    return operation


def _start(request: S3Request, status: int, headers: dict[str, str]) -> dict[str, object]:
    pairs = [
        (b"x-amz-request-id", request.request_id.encode()),
        (b"x-amz-id-2", request.host_id.encode()),
    ]
    if request.leaves_body_unread:
        headers["connection"] = "close"
    for name, value in headers.items():
        pairs.append((name.encode("latin-1"), value.encode("latin-1", "replace")))
    return {"type": "http.response.start", "status": status, "headers": pairs}
