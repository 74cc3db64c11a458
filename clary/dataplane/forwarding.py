"""The hop to control: every request that the door does not answer itself, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from clary.dataplane.answers import Headers, Receive, Scope, Send, send_whole
from clary.dataplane.bodies import Body, BodyBudget
from clary.dataplane.upstream import (
    Answer,
    AnswerOverdue,
    CannotConnect,
    ConnectionLost,
    Pool,
    PoolBusy,
)
from clary.model.errors import ServiceUnavailable, ThrottlingException

log = logging.getLogger(__name__)

# Headers about one connection, not about the request. Signers leave them out, so dropping them
# keeps every signature valid. The peer header is ours: a client cannot claim another address.
CONNECTION_HEADERS = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
        b"content-length",
        b"x-clary-peer",
    )
)
ANSWER_CONNECTION_HEADERS = frozenset(
    (b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"trailer")
)
WAITING_FOR_RESTART_MAX = 1024
PROBE_INTERVAL_SECONDS = 0.05


class ControlLink:
    """Forwards requests to control over its Unix socket and outlasts a short absence of it."""

    def __init__(
        self,
        socket: Path,
        *,
        budget: BodyBudget,
        body_bytes_max: int,
        answer_seconds: float = 120.0,
        restart_seconds: float = 5.0,
    ) -> None:
        self.pool = Pool(socket, connections_max=32, waiting_max=1024)
        self.budget = budget
        self.body_bytes_max = body_bytes_max
        self.answer_seconds = answer_seconds
        self.restart_seconds = restart_seconds
        self._return: asyncio.Task[None] | None = None
        self._waiting = 0

    async def forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on and its answer back; raise an ApiError where control is away."""
        with Body(self.budget, self.body_bytes_max, "one request") as reader:
            body = await reader.read(scope, receive)
            answer = await self._send(
                [request_head(scope, len(body)), body], bodiless=scope["method"] == "HEAD"
            )
        await relay(answer, send)

    async def ask(
        self, method: str, target: str, body: bytes = b"", *, seconds: float = 2.0
    ) -> tuple[int, bytes]:
        """The door's own request; raises UpstreamFailure, never waits for a restart."""
        head = (
            f"{method} {target} HTTP/1.1\r\nhost: control\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode()
        answer = await self.pool.send([head, body], seconds=seconds)
        status = await answer.head()
        content = await answer.read(1024 * 1024)
        return status, content or b""

    def close(self) -> None:
        self.pool.close()
        if self._return is not None:
            self._return.cancel()

    async def _send(self, request: list[bytes], *, bodiless: bool) -> Answer:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.restart_seconds
        while True:
            try:
                answer = await self.pool.send(
                    request, seconds=self.answer_seconds, bodiless=bodiless
                )
                await answer.head()
                return answer
            except CannotConnect as problem:
                if not await self._control_returned(deadline - loop.time()):
                    raise ServiceUnavailable(
                        "The control plane of Clary is not answering; it may be restarting. "
                        "Please try again, or see `clary status`."
                    ) from problem
            except PoolBusy as problem:
                raise ThrottlingException("Rate exceeded") from problem
            except ConnectionLost as problem:
                raise ServiceUnavailable(
                    "The control plane of Clary stopped while it worked on this request. "
                    "Please try again."
                ) from problem
            except AnswerOverdue as problem:
                raise ServiceUnavailable(
                    f"The control plane of Clary did not answer within {self.answer_seconds:g} s."
                ) from problem

    async def _control_returned(self, seconds: float) -> bool:
        """Wait until control accepts connections again; one probe serves all who wait."""
        if seconds <= 0 or self._waiting >= WAITING_FOR_RESTART_MAX:
            return False
        if self._return is None or self._return.done():
            self._return = asyncio.create_task(self._probe())
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._return)
            return True
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1

    async def _probe(self) -> None:
        """Try to connect for as long as anyone can be waiting for it."""
        log.warning("control is away: waiting for %s", self.pool.address)
        for _ in range(int(self.restart_seconds / PROBE_INTERVAL_SECONDS) + 1):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_unix_connection(str(self.pool.address))
                writer.close()
                log.warning("control is back")
                return
            await asyncio.sleep(PROBE_INTERVAL_SECONDS)


def request_head(scope: Scope, body_bytes: int) -> bytes:
    """The head that control receives: path and header values as the client sent them."""
    target: bytes = scope["raw_path"]
    if scope["query_string"]:
        target = target + b"?" + scope["query_string"]
    lines = [scope["method"].encode() + b" " + target + b" HTTP/1.1"]
    lines += [
        name + b": " + value for name, value in scope["headers"] if name not in CONNECTION_HEADERS
    ]
    client = scope.get("client")
    lines.append(b"x-clary-peer: " + (client[0] if client else "unknown").encode())
    lines.append(b"content-length: %d\r\n\r\n" % body_bytes)
    return b"\r\n".join(lines)


async def relay(answer: Answer, send: Send) -> None:
    """Send an upstream answer on, whole if it is there already, else as it arrives."""
    headers: Headers = [
        (name, value) for name, value in answer.headers if name not in ANSWER_CONNECTION_HEADERS
    ]
    try:
        if answer.complete:
            body = await answer.chunk()
            headers = (
                [pair for pair in headers if pair[0] != b"content-length"] if body else headers
            )
            if body:
                await send_whole(send, answer.status, headers, body)
                return
            if not any(name == b"content-length" for name, _ in headers):
                headers.append((b"content-length", b"0"))
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        while piece := await answer.chunk():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        answer.abandon()
