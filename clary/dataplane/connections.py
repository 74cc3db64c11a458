"""The HTTP side of one client connection: uvicorn's protocol, with bounds on a client's cost."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from clary.dataplane.answers import Application
from clary.dataplane.shortcuts import Call, Shortcuts

HEAD_BYTES_MAX = 64 * 1024
UNREAD_BYTES_MAX = (
    256 * 1024 * 1024
)  # thrown away after an early answer, before the client is cut off
JOINED_BYTES_MAX = 64 * 1024
STALLED_SECONDS = 60.0
KEEP_ALIVE_SECONDS = 75


class HeadTooLarge(Exception):
    """The request line and headers exceed what any client of AWS sends."""


class JoinedWrites:
    """A transport that sends the head and the first piece of an answer in one system call.

    uvicorn writes them apart, and uvloop sends each write at once: two calls and two packets.
    """

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        if self._held:
            held, self._held = self._held, b""
            if len(data) < JOINED_BYTES_MAX:
                self._transport.write(held + data)
            else:
                self._transport.writelines((held, data))
        elif len(data) < JOINED_BYTES_MAX:
            self._held = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def write_now(self, data: bytes) -> None:
        """Send what is complete in itself, behind what is held."""
        if self._held:
            held, self._held = self._held, b""
            data = held + data
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class HttpConnection(HttpToolsProtocol):
    """One client's connection; `peer` is given where the bytes come through a splice.

    A small request whose head is there when its first bytes are takes a shortcut past uvicorn; what
    arrives behind it waits until it is answered, so that answers keep the order of requests.
    """

    def __init__(
        self,
        config: Config,
        state: ServerState,
        *,
        shortcuts: Shortcuts | None = None,
        peer: tuple[str, int] | None = None,
    ) -> None:
        super().__init__(config, state, {})
        self.shortcuts = shortcuts
        self.peer = peer
        self.head_bytes = 0
        self.unread_bytes = 0
        self.head_pending = False
        self.last_progress = self.loop.time()
        self.joined: JoinedWrites
        self.call: Call | None = None  # on a shortcut, not answered yet
        self.begun = bytearray()  # of a request whose body is not complete
        self.behind = bytearray()  # what arrived behind a call
        self.idle = False  # since a call was answered
        self.last = False  # no request is taken after the one that is being answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.joined = JoinedWrites(cast(asyncio.Transport, transport), self.loop)
        super().connection_made(cast(asyncio.Transport, self.joined))
        if self.peer is not None:
            self.client = self.peer

    def data_received(self, data: bytes) -> None:
        self.last_progress = self.loop.time()
        self.idle = False
        if self.call is not None:
            self.behind += data
            self.flow.pause_reading()
            return
        if self.begun:
            self.begun += data
            data = bytes(self.begun)
            self.begun.clear()
        if self.shortcuts is not None and self._between_requests():
            call = self.shortcuts.parse(data)
            if call is not None:
                self._take(call, data)
                return
        super().data_received(data)

    def _between_requests(self) -> bool:
        """Whether uvicorn has nothing under way: no head, body, answer, or client that reads slowly."""
        if self.head_pending or self.flow.write_paused:
            return False
        cycle = self.cycle
        return cycle is None or (
            cycle.response_complete and not cycle.more_body and not self.pipeline
        )

    def _take(self, call: Call, data: bytes) -> None:
        size = call.head.size
        if len(data) < size:
            self.begun += data
            return
        behind, data = data[size:], data[:size]
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self.call = call
        if behind:
            self.behind += behind
            self.flow.pause_reading()
        peer = self.client[0] if self.client else "unknown"
        if not call.answer(call, data, peer, self):
            self.call = None
            self.behind.clear()
            self.flow.resume_reading()
            super().data_received(data + behind)

    def reply(self, data: bytes) -> None:
        """The whole answer to the call."""
        call, self.call = self.call, None
        if self.transport.is_closing():
            return
        self.joined.write_now(data)
        self.last_progress = self.loop.time()
        self.idle = True
        if self.last or (call is not None and not call.head.keep_alive):
            self.transport.close()
        elif self.behind:
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take what arrived behind a call."""
        if self.call is not None or not self.behind or self.transport.is_closing():
            return
        data = bytes(self.behind)
        self.behind.clear()
        self.flow.resume_reading()
        self.data_received(data)

    def shutdown(self) -> None:
        if self.call is not None:
            self.last = True
        else:
            super().shutdown()

    def on_message_begin(self) -> None:
        self.head_bytes = 0
        self.head_pending = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self.head_pending = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self.cycle.response_complete:
            self.unread_bytes += len(body)
            if self.unread_bytes > UNREAD_BYTES_MAX:
                self.transport.abort()
            return
        super().on_body(body)

    def _count(self, size: int) -> None:
        self.head_bytes += size
        if self.head_bytes > HEAD_BYTES_MAX:
            raise HeadTooLarge

    def is_stalled(self, now: float) -> bool:
        """The client owes bytes and has sent none for too long, or is idle; uvicorn sees to the
        idleness after its own answers.
        """
        silent = now - self.last_progress
        owes = (
            self.head_pending
            or bool(self.begun)
            or (
                self.cycle is not None
                and self.cycle.more_body
                and not self.cycle.response_complete
                and not self.flow.read_paused
            )
        )
        if owes:
            return silent > STALLED_SECONDS
        return self.idle and silent > KEEP_ALIVE_SECONDS


class Connections:
    """Every HTTP connection of this process: how they are made, swept and ended."""

    def __init__(self, application: Application, shortcuts: Shortcuts | None = None) -> None:
        self.shortcuts = shortcuts
        self.config = Config(
            cast(Any, application),
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self.config.load()
        # uvicorn asks the logger, not the configuration, whether to log each request.
        access = logging.getLogger("uvicorn.access")
        access.handlers = []
        access.propagate = False
        self.state = ServerState()

    def make(self, peer: tuple[str, int] | None = None) -> HttpConnection:
        return HttpConnection(self.config, self.state, shortcuts=self.shortcuts, peer=peer)

    async def sweep(self, interval_seconds: float = 5.0) -> None:
        """Cut off clients that stall, for ever; a cancelled task ends it."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(interval_seconds)
            now = loop.time()
            for connection in list(self.state.connections):
                if isinstance(connection, HttpConnection) and connection.is_stalled(now):
                    connection.transport.abort()

    async def finish(self, seconds: float) -> None:
        """Let the requests in flight end, then cut what remains."""
        for connection in list(self.state.connections):
            connection.shutdown()
        deadline = asyncio.get_running_loop().time() + seconds
        if self.state.tasks:
            await asyncio.wait(list(self.state.tasks), timeout=seconds)
        while any(self._answering()) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        for connection in list(self.state.connections):
            connection.transport.abort()

    def _answering(self) -> list[HttpConnection]:
        """The connections on which a call is being answered."""
        return [
            connection
            for connection in self.state.connections
            if isinstance(connection, HttpConnection) and connection.call is not None
        ]
