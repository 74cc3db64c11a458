"""A bounded pool of keep-alive HTTP/1.1 connections to one server behind the door.

The pool speaks raw bytes over a Unix or TCP socket: a general HTTP client costs a hundred times the
microseconds of this hop. One connection carries one request at a time.

    slot ── idle connection, or a new one ── request bytes out ── Answer: head, then body pieces
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import cast

import httptools

Headers = list[tuple[bytes, bytes]]

BUFFERED_BYTES_MAX = 256 * 1024  # of an answer, before reading from the server is paused


class UpstreamFailure(Exception):
    """The server behind the door did not answer; a subclass says what may have happened."""


class CannotConnect(UpstreamFailure):
    """Nothing was sent: another server, or the same one later, may be tried."""


class PoolBusy(UpstreamFailure):
    """Nothing was sent: every connection is taken and the waiting queue is full or too slow."""


class ConnectionLost(UpstreamFailure):
    """The connection broke after the request was sent: its effect is unknown."""


class NotBegun(ConnectionLost):
    """The connection broke while an earlier request on it was being answered: this one may be sent again."""


class AnswerOverdue(UpstreamFailure):
    """The server did not answer in time."""


class Answer:
    """What the server says to one request, as it arrives."""

    __slots__ = (
        "_chunks",
        "_connection",
        "_timer",
        "_waiter",
        "buffered",
        "complete",
        "failure",
        "headers",
        "status",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._chunks: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.buffered = 0
        self.status = 0
        self.headers: Headers = []
        self.complete = False
        self.failure: UpstreamFailure | None = None

    async def head(self) -> int:
        """Wait for the status and headers."""
        while not self.status:
            if self.failure is not None:
                raise self.failure
            await self._changed()
        return self.status

    async def chunk(self) -> bytes:
        """The next piece of the body; empty at its end."""
        while True:
            if self._chunks:
                taken = b"".join(self._chunks)
                self._chunks.clear()
                self.buffered = 0
                self._connection.resume()
                return taken
            if self.failure is not None:
                raise self.failure
            if self.complete:
                return b""
            await self._changed()

    async def read(self, limit: int) -> bytes | None:
        """The whole body; None, and the connection is dropped, if it is longer than `limit`."""
        pieces: list[bytes] = []
        size = 0
        while piece := await self.chunk():
            size += len(piece)
            if size > limit:
                self.abandon()
                return None
            pieces.append(piece)
            if self.complete and not self._chunks:
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def header(self, name: bytes) -> bytes:
        return next((value for found, value in self.headers if found == name), b"")

    def extend(self, seconds: float) -> None:
        """Give the rest of the answer this long from now."""
        self.stop_clock()
        if not self.complete and self.failure is None:
            self.start_clock(seconds)

    def abandon(self) -> None:
        """Nobody wants the rest; a half-read connection cannot be used again."""
        if not self.complete and self.failure is None:
            self.fail(ConnectionLost("the answer was abandoned"))
            self._connection.drop()

    # What the connection tells.

    def start_clock(self, seconds: float) -> None:
        self._timer = self._connection.loop.call_later(seconds, self._overdue, seconds)

    def stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def feed(self, piece: bytes) -> bool:
        """Keep a piece; True asks the connection to pause."""
        self._chunks.append(piece)
        self.buffered += len(piece)
        self.wake()
        return self.buffered > BUFFERED_BYTES_MAX

    def finish(self) -> None:
        self.complete = True
        self.stop_clock()
        self.wake()

    def fail(self, failure: UpstreamFailure) -> None:
        if not self.complete and self.failure is None:
            self.failure = failure
            self.stop_clock()
            self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _overdue(self, seconds: float) -> None:
        self.fail(AnswerOverdue(f"no answer within {seconds:g} s"))
        self._connection.drop()

    async def _changed(self) -> None:
        self._waiter = self._connection.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class Connection(asyncio.Protocol):
    """One socket to the server; the parser's callbacks fill the current answer."""

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self.pool = pool
        self.loop = loop
        self.transport: asyncio.Transport
        self.parser = httptools.HttpResponseParser(self)
        self.answer: Answer | None = None
        self.bodiless = False  # the answer to a HEAD: its Content-Length announces nothing
        self.framed = False  # the answer's end is marked, not given by the end of the connection
        self.paused = False
        self.closed = False
        self.idle_since = 0.0
        self.headers: Headers = []

    def begin(self, request: list[bytes], *, seconds: float, bodiless: bool) -> Answer:
        answer = self.answer = Answer(self)
        self.bodiless = bodiless
        self.framed = False
        answer.start_clock(seconds)
        self.transport.writelines(request)
        return answer

    def drop(self) -> None:
        self.closed = True
        self.transport.abort()

    def resume(self) -> None:
        if self.paused and not self.closed:
            self.paused = False
            self.transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.answer is None:
            self.drop()  # the server speaks unasked: it cannot be trusted with a next request
            return
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as problem:
            if self.answer is not None:
                self.answer.fail(ConnectionLost(f"the answer is not HTTP: {problem}"))
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        answer, self.answer = self.answer, None
        if answer is not None:
            if answer.status and not self.framed:
                answer.finish()
            else:
                answer.fail(ConnectionLost("the connection closed before the answer was complete"))
        self.pool.lost(self, was_busy=answer is not None)

    # httptools callbacks

    def on_message_begin(self) -> None:
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self.framed = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200 or self.answer is None:
            return
        self.answer.status = status
        self.answer.headers = self.headers
        self.answer.wake()
        if status in (204, 304):
            self.framed = True
        if self.bodiless:
            self._complete(reusable=False)

    def on_body(self, body: bytes) -> None:
        if self.answer is not None and self.answer.feed(body) and not self.paused:
            self.paused = True
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.parser.get_status_code() >= 200:
            self._complete(reusable=self.parser.should_keep_alive())

    def _complete(self, *, reusable: bool) -> None:
        answer, self.answer = self.answer, None
        if answer is None:
            return
        self.resume()
        answer.finish()
        if not reusable:
            self.drop()
        self.pool.done(self)


class Pool:
    """Connections to one address: at most `connections_max`, `waiting_max` in the queue.

    The server must keep idle connections open longer than `idle_seconds`, so that it is always the
    pool that closes them and no request races with a closing socket.
    """

    def __init__(
        self,
        address: Path | tuple[str, int],
        *,
        connections_max: int = 32,
        waiting_max: int = 1024,
        waiting_seconds: float = 30.0,
        connect_seconds: float = 1.0,
        idle_seconds: float = 30.0,
    ) -> None:
        self.address = address
        self.waiting_max = waiting_max
        self.waiting_seconds = waiting_seconds
        self.connect_seconds = connect_seconds
        self.idle_seconds = idle_seconds
        self.outstanding = 0  # requests sent or waiting; what "least outstanding" compares
        self._free = connections_max
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle: list[Connection] = []
        self._closed = False

    async def send(self, request: list[bytes], *, seconds: float, bodiless: bool = False) -> Answer:
        """Send one complete request; the answer's head is due within `seconds`."""
        self.outstanding += 1
        try:
            if self._free:
                self._free -= 1
            else:
                await self._wait_for_slot()
        except BaseException:
            self.outstanding -= 1
            raise
        try:
            connection = self._take_idle() or await self._connect()
            if connection.closed:
                raise CannotConnect(f"{self.address}: closed at once")
        except BaseException:
            self._release()
            raise
        return connection.begin(request, seconds=seconds, bodiless=bodiless)

    def done(self, connection: Connection) -> None:
        """A connection finished its request."""
        if not connection.closed:
            if self._closed:
                connection.drop()
            else:
                connection.idle_since = connection.loop.time()
                self._idle.append(connection)
        self._release()

    def lost(self, connection: Connection, *, was_busy: bool) -> None:
        """A connection is gone; its slot is free again if it carried a request."""
        if was_busy:
            self._release()
        elif connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Close what is idle now, and what is busy when it is done."""
        self._closed = True
        while self._idle:
            self._idle.pop().drop()

    def _release(self) -> None:
        self.outstanding -= 1
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1

    async def _wait_for_slot(self) -> None:
        if len(self._waiting) >= self.waiting_max:
            raise PoolBusy(f"{self.waiting_max} requests wait already")
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self.waiting_seconds):
                await waiter
        except BaseException as problem:
            if waiter.done() and not waiter.cancelled():
                # The slot came in the very moment of giving up: pass it on.
                self.outstanding += 1
                self._release()
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            if isinstance(problem, TimeoutError):
                raise PoolBusy(
                    f"no connection became free within {self.waiting_seconds:g} s"
                ) from None
            raise

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.closed or connection.transport.is_closing():
                continue
            if connection.loop.time() - connection.idle_since > self.idle_seconds:
                connection.drop()
                continue
            return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.connect_seconds):
                if isinstance(self.address, Path):
                    _, made = await loop.create_unix_connection(
                        lambda: Connection(self, loop), str(self.address)
                    )
                else:
                    host, port = self.address
                    _, made = await loop.create_connection(
                        lambda: Connection(self, loop), host, port
                    )
        except (OSError, TimeoutError) as problem:
            raise CannotConnect(f"{self.address}: {problem or 'timed out'}") from problem
        return made
