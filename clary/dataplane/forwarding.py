"""The hop to control: every request that the door does not answer itself, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from clary.dataplane.answer_heads import AnswerHead
from clary.dataplane.answers import (
    Headers,
    Receive,
    Scope,
    Send,
    rendered,
    send_whole,
    worded,
)
from clary.dataplane.bodies import Body, BodyBudget
from clary.dataplane.lanes import Lanes
from clary.dataplane.shortcuts import Call, Client
from clary.dataplane.upstream import (
    Answer,
    AnswerOverdue,
    CannotConnect,
    ConnectionLost,
    Pool,
    PoolBusy,
    UpstreamFailure,
)
from clary.model.errors import (
    ApiError,
    InternalFailure,
    ServiceUnavailable,
    ThrottlingException,
)
from clary.wire.request_heads import Head

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
CONNECTIONS_MAX = 32
ANSWER_BYTES_MAX = 64 * 1024 * 1024  # of one that is held whole
WAITING_FOR_RESTART_MAX = 1024
PROBE_INTERVAL_SECONDS = 0.05


# A request with one of these is put together anew.
UNPLAIN_HEADERS = frozenset(("keep-alive", "proxy-authorization", "te", "trailer", "x-clary-peer"))


class Passing:
    """A small request on its way over a lane, and the client that waits for its answer."""

    __slots__ = ("client", "head", "link", "request")

    def __init__(self, link: ControlLink, head: Head, request: bytes, client: Client) -> None:
        self.link = link
        self.head = head
        self.request = request
        self.client = client

    def answered(self, head: AnswerHead, body: bytes | None) -> None:
        if body is None:
            problem = InternalFailure("The answer of the control plane is too large.")
            self.refused(problem)
            return
        headers = [
            pair
            for pair in head.headers
            if pair[0] not in ANSWER_CONNECTION_HEADERS and pair[0] != b"content-length"
        ]
        keep_alive = self.head.keep_alive
        self.client.reply(rendered(head.status, headers, body, keep_alive=keep_alive))

    def failed(self, problem: UpstreamFailure) -> None:
        if isinstance(problem, CannotConnect):
            self.link.try_again(self)
        else:
            self.refused(self.link.refusal(problem))

    def refused(self, problem: ApiError) -> None:
        kind = self.head.headers.get("content-type", "")
        answer = worded(problem, kind)
        self.client.reply(rendered(*answer, keep_alive=self.head.keep_alive))


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
        self.socket = socket
        self.pool = Pool(socket, connections_max=CONNECTIONS_MAX, waiting_max=1024)
        self.lanes: Lanes | None = None  # for what is small and whole; made on the event loop
        self.budget = budget
        self.body_bytes_max = body_bytes_max
        self.answer_seconds = answer_seconds
        self.restart_seconds = restart_seconds
        self._return: asyncio.Task[None] | None = None
        self._again: set[asyncio.Task[None]] = set()
        self._waiting = 0

    async def forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on and its answer back; raise an ApiError where control is away."""
        with Body(self.budget, self.body_bytes_max, "one request") as reader:
            body = await reader.read(scope, receive)
            answer = await self._send(
                [request_head(scope, len(body)), body], bodiless=scope["method"] == "HEAD"
            )
        await relay(answer, send)

    def pass_on(self, call: Call, data: bytes, peer: str, client: Client) -> bool:
        """The shortcut of a small request: its bytes as they came, told who sent them."""
        head = call.head
        if head.method == "HEAD" or not UNPLAIN_HEADERS.isdisjoint(head.headers):
            return False
        if head.headers.get("connection", "keep-alive") != "keep-alive":
            return False
        if self.lanes is None:
            self.lanes = Lanes(
                self.socket, lanes_max=CONNECTIONS_MAX, body_bytes_max=ANSWER_BYTES_MAX
            )
        line_end = data.index(b"\n") + 1
        request = b"%bx-clary-peer: %b\r\n%b" % (data[:line_end], peer.encode(), data[line_end:])
        passing = Passing(self, head, request, client)
        try:
            self.lanes.submit(passing, [request], self.answer_seconds)
        except PoolBusy as problem:
            passing.failed(problem)
        return True

    def try_again(self, passing: Passing) -> None:
        """Send a request that did not reach control, once control is there again."""

        async def send() -> None:
            try:
                answer = await self._send([passing.request], bodiless=False)
                body = await answer.read(ANSWER_BYTES_MAX)
                passing.answered(AnswerHead(answer.status, answer.headers), body)
            except ApiError as problem:
                passing.refused(problem)
            except UpstreamFailure as problem:
                passing.refused(self.refusal(problem))

        task = asyncio.get_running_loop().create_task(send())
        self._again.add(task)
        task.add_done_callback(self._again.discard)

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
        if self.lanes is not None:
            self.lanes.close()
        for task in self._again:
            task.cancel()
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
                    raise self.refusal(problem) from problem
            except UpstreamFailure as problem:
                raise self.refusal(problem) from problem

    def refusal(self, problem: UpstreamFailure) -> ApiError:
        """What the client is told where control does not answer."""
        match problem:
            case PoolBusy():
                return ThrottlingException("Rate exceeded")
            case ConnectionLost():
                text = (
                    "The control plane of Clary stopped while it worked on this request. "
                    "Please try again."
                )
            case AnswerOverdue():
                text = (
                    f"The control plane of Clary did not answer within {self.answer_seconds:g} s."
                )
            case _:
                text = (
                    "The control plane of Clary is not answering; it may be restarting. "
                    "Please try again, or see `clary status`."
                )
        return ServiceUnavailable(text)

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
