"""Whole exchanges with one model server: few connections, one write for all requests of a turn.

    submit ── lane ── outbox ── one write at the end of the loop's turn ── answers, in order ── asker

A lane is a keep-alive connection. A server that is known to take pipelined requests (Clary's own)
gets up to `depth` of them on each lane: rows that arrive together reach it in one piece, and it
predicts them together. Any other server gets one request at a time on each lane.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from pathlib import Path
from typing import Protocol, cast

import httptools

from clary.dataplane.upstream import (
    AnswerOverdue,
    CannotConnect,
    ConnectionLost,
    Headers,
    PoolBusy,
    UpstreamFailure,
)

SWEEP_SECONDS = 0.1
JOINED_BYTES_MAX = 64 * 1024  # up to this, one copy costs less than a vector of pieces
HEAD_BYTES_MAX = 64 * 1024
HEADS_REMEMBERED_MAX = 1024
HEAD_REMEMBERED_BYTES_MAX = 2048

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: [^\r\n]*)?")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DIGITS = re.compile(rb"\d{1,15}")


class Asker(Protocol):
    """Who submitted a request. Exactly one of the two is called, once, on the event loop."""

    def answered(self, head: AnswerHead, body: bytes | None) -> None:
        """`body` is None where it was longer than is passed on."""
        ...

    def failed(self, problem: UpstreamFailure) -> None: ...


class AnswerHead:
    """A parsed head. Servers repeat themselves, so heads are remembered by their bytes."""

    __slots__ = ("framed", "headers", "length", "rendered", "reusable", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.length = 0
        self.framed = False
        self.reusable = False
        self.rendered = b""  # what the asker makes of the headers, remembered along with them

    @staticmethod
    def parse(raw: bytes) -> AnswerHead:
        lines = raw.split(b"\r\n")
        found = _STATUS_LINE.fullmatch(lines[0])
        if found is None:
            raise ValueError("the status line is malformed")
        head = AnswerHead(int(found[2]), [])
        head.framed = head.status in (204, 304) or head.status < 200
        connection = b""
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon or not _NAME.fullmatch(name) or b"\n" in value or b"\r" in value:
                raise ValueError("a header line is malformed")
            name, value = name.lower(), value.strip(b" \t")
            if name == b"content-length":
                head._announce(value)
            elif name == b"connection":
                connection = value.lower()
            head.headers.append((name, value))
        if any(name == b"transfer-encoding" for name, _ in head.headers):
            head.framed = False  # the parser of chunks reads the length, or the end, itself
        old = found[1] == b"0"
        head.reusable = b"keep-alive" in connection if old else b"close" not in connection
        return head

    def _announce(self, value: bytes) -> None:
        length = int(value) if _DIGITS.fullmatch(value) else -1
        if length < 0 or (self.length and self.length != length):
            raise ValueError("the Content-Length is malformed")
        if self.status not in (204, 304) and self.status >= 200:
            self.length = length
        self.framed = True


class Ticket:
    """One request that waits for a lane or for its answer; without an asker it was given up."""

    __slots__ = ("asker", "due", "request", "seconds")

    def __init__(self, asker: Asker, request: list[bytes], seconds: float, due: float) -> None:
        self.asker: Asker | None = asker
        self.request = request
        self.seconds = seconds
        self.due = due


class Lane(asyncio.Protocol):
    """One connection; its answers come in the order of its requests."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.transport: asyncio.Transport
        self.pending: deque[Ticket] = deque()
        self.outbox: list[bytes] = []
        self.closed = False
        self.idle_since = 0.0
        self._buffer = bytearray()
        self._needed = 0  # bytes of the buffer before it is worth another look
        self._skipping = 0  # bytes still to come of a body that is too large
        self._pieces: Pieces | None = None

    def put(self, ticket: Ticket, now: float) -> None:
        ticket.due = now + ticket.seconds
        self.pending.append(ticket)
        self.outbox += ticket.request
        ticket.request = []

    def flush(self) -> None:
        outbox, self.outbox = self.outbox, []
        if self.closed or not outbox:
            return
        if sum(map(len, outbox)) < JOINED_BYTES_MAX:
            self.transport.write(b"".join(outbox))
        else:
            self.transport.writelines(outbox)

    def drop(self, problem: UpstreamFailure | None = None) -> None:
        """End the connection; what was asked on it fails."""
        if not self.closed:
            self.closed = True
            self.transport.abort()
            self.lanes.lost(self, problem or ConnectionLost("the connection was dropped"))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.closed:
            return
        if self._pieces is not None and self._pieces.ends_with_connection():
            self._deliver(*self._pieces.taken(), reusable=False)
            if self.closed:
                return
        self.closed = True
        problem = ConnectionLost("the connection closed before the answer was complete")
        self.lanes.lost(self, problem)

    def data_received(self, data: bytes) -> None:
        if self._pieces is not None:
            self._feed_pieces(data)
            return
        if self._skipping:
            taken = min(self._skipping, len(data))
            self._skipping -= taken
            data = data[taken:]
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return
            data = bytes(self._buffer)
            self._buffer.clear()
        try:
            used = self._cut(data)
        except ValueError as problem:
            self.drop(ConnectionLost(f"the answer is not HTTP: {problem}"))
            return
        if used < len(data) and not self.closed:
            self._buffer += data[used:] if used else data

    def _cut(self, data: bytes) -> int:
        """Deliver every answer that is whole; return how many bytes were used up."""
        at = 0
        while at < len(data) and not self.closed:
            if not self.pending:
                raise ValueError("the server speaks unasked")
            end = data.find(b"\r\n\r\n", at)
            if end < 0:
                if len(data) - at > HEAD_BYTES_MAX:
                    raise ValueError("the head of the answer is too long")
                self._needed = 0
                return at
            head = self.lanes.head(data[at:end])
            start, stop = end + 4, end + 4 + head.length
            if head.status < 200:
                at = start
            elif not head.framed:
                self._begin_pieces(data[at:])
                return len(data)
            elif head.length > self.lanes.body_bytes_max:
                self._skipping = max(0, stop - len(data))
                self._deliver(head, None, reusable=head.reusable)
                at = stop
            elif stop <= len(data):
                at = stop
                self._deliver(head, data[start:stop], reusable=head.reusable)
            else:
                self._needed = stop - at
                return at
        return min(at, len(data))

    def _begin_pieces(self, data: bytes) -> None:
        """An answer in chunks, or one that ends with the connection: a real parser reads those."""
        if self.lanes.depth > 1:
            raise ValueError("a pipelined answer has no length")
        self._pieces = Pieces(self.lanes.body_bytes_max)
        self._feed_pieces(data)

    def _feed_pieces(self, data: bytes) -> None:
        assert self._pieces is not None
        try:
            complete = self._pieces.feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as problem:
            self.drop(ConnectionLost(f"the answer is not HTTP: {problem}"))
            return
        if self._pieces.too_large:
            self._deliver(self._pieces.taken()[0], None, reusable=False)
        elif complete:
            pieces, self._pieces = self._pieces, None
            self._deliver(*pieces.taken(), reusable=pieces.reusable)

    def _deliver(self, head: AnswerHead, body: bytes | None, *, reusable: bool) -> None:
        ticket = self.pending.popleft()
        asker, ticket.asker = ticket.asker, None
        if not self.pending:
            self.idle_since = self.lanes.loop.time()
        if not reusable:
            # What was sent behind the server's last answer was not read: it may be sent again.
            self.drop(CannotConnect("the server closes its connections"))
        self.lanes.settled(self, asker is not None)
        if asker is not None:
            asker.answered(head, body)


class Pieces:
    """Reads one answer whose head does not say how long it is."""

    def __init__(self, bytes_max: int) -> None:
        self.status = 0
        self.headers: Headers = []
        self.reusable = False
        self.too_large = False
        self._bytes_max = bytes_max
        self._body = bytearray()
        self._complete = False
        self._framed = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> bool:
        self._parser.feed_data(data)
        return self._complete

    def ends_with_connection(self) -> bool:
        return bool(self.status) and not self._framed and not self.too_large

    def taken(self) -> tuple[AnswerHead, bytes]:
        return AnswerHead(self.status, self.headers), bytes(self._body)

    # httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._framed = any(name == b"transfer-encoding" for name, _ in self.headers)

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > self._bytes_max:
            self.too_large = True
            self._body.clear()

    def on_message_complete(self) -> None:
        self._complete = True
        self.reusable = self._framed and self._parser.should_keep_alive()


class Lanes:
    """The connections to one model server: at most `lanes_max`, with `depth` requests on each."""

    def __init__(
        self,
        address: Path,
        *,
        lanes_max: int,
        depth: int = 1,
        waiting_max: int = 1024,
        body_bytes_max: int,
        connect_seconds: float = 1.0,
        waiting_seconds: float = 30.0,
        idle_seconds: float = 30.0,
    ) -> None:
        self.address = address
        self.lanes_max = lanes_max
        self.depth = depth
        self.waiting_max = waiting_max
        self.body_bytes_max = body_bytes_max
        self.connect_seconds = connect_seconds
        self.waiting_seconds = waiting_seconds
        self.idle_seconds = idle_seconds
        self.outstanding = 0  # requests sent or waiting; what "least outstanding" compares
        self.peak = 0  # of `outstanding`, since somebody took it
        self.loop = asyncio.get_running_loop()
        self._lanes: list[Lane] = []
        self._waiting: deque[Ticket] = deque()
        self._heads: dict[bytes, AnswerHead] = {}
        self._current: Lane | None = None  # takes the requests of this turn of the loop
        self._touched: list[Lane] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def submit(self, asker: Asker, request: list[bytes], seconds: float) -> None:
        """Send one request at the end of this turn; the whole answer is due within `seconds`.

        Raise PoolBusy where too many wait already.
        """
        now = self.loop.time()
        lane = self._current
        if lane is None or lane.closed or len(lane.pending) >= self.depth:
            lane = self._choose()
        ticket = Ticket(asker, request, seconds, now + self.waiting_seconds)
        if lane is None:
            if len(self._waiting) >= self.waiting_max:
                raise PoolBusy(f"{self.waiting_max} requests wait already")
            self._waiting.append(ticket)
            self._open_more()
        else:
            self._give(lane, ticket, now)
        self.outstanding += 1
        if self.outstanding > self.peak:
            self.peak = self.outstanding
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def close(self) -> None:
        """Close what is idle now, and what is busy when it is done."""
        self._closed = True
        for lane in list(self._lanes):
            if not lane.pending:
                lane.drop()

    # What the lanes tell.

    def head(self, raw: bytes) -> AnswerHead:
        head = self._heads.get(raw)
        if head is None:
            head = AnswerHead.parse(raw)
            if len(raw) <= HEAD_REMEMBERED_BYTES_MAX:
                if len(self._heads) >= HEADS_REMEMBERED_MAX:
                    self._heads.clear()
                self._heads[raw] = head
        return head

    def settled(self, lane: Lane, wanted: bool) -> None:
        """A lane delivered an answer: it has room for another request."""
        if wanted:
            self.outstanding -= 1
        if self._waiting:
            self._pump()
        if self._closed and not lane.pending and not lane.closed:
            lane.drop()

    def lost(self, lane: Lane, problem: UpstreamFailure) -> None:
        """A lane is gone: what was asked on it fails."""
        if lane in self._lanes:
            self._lanes.remove(lane)
        if self._current is lane:
            self._current = None
        pending = list(lane.pending)
        lane.pending.clear()
        lane.outbox.clear()
        for ticket in pending:
            self._fail(ticket, problem)
        if self._waiting:
            self._open_more()

    # Lanes and their requests.

    def _choose(self) -> Lane | None:
        """The lane with the fewest requests on it, if that has room for one more."""
        lane, fewest = None, self.depth
        for one in self._lanes:
            count = len(one.pending)
            if count < fewest:
                lane, fewest = one, count
                if not count:
                    break
        if lane is None:
            return None
        if fewest and len(self._lanes) + len(self._opening) < self.lanes_max:
            self._open()
        self._current = lane if self.depth > 1 else None
        return lane

    def _give(self, lane: Lane, ticket: Ticket, now: float) -> None:
        if not lane.outbox:
            if not self._touched:
                self.loop.call_soon(self._flush)
            self._touched.append(lane)
        lane.put(ticket, now)

    def _flush(self) -> None:
        touched, self._touched = self._touched, []
        self._current = None
        for lane in touched:
            lane.flush()

    def _pump(self) -> None:
        """Give what waits to the lanes that have room."""
        while self._waiting:
            lane = self._choose()
            if lane is None:
                self._open_more()
                return
            ticket = self._waiting.popleft()
            if ticket.asker is not None:
                self._give(lane, ticket, self.loop.time())

    def _open_more(self) -> None:
        wanted = -(-len(self._waiting) // self.depth)
        while len(self._opening) < wanted:
            if len(self._lanes) + len(self._opening) >= self.lanes_max:
                return
            self._open()

    def _open(self) -> None:
        task = self.loop.create_task(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            async with asyncio.timeout(self.connect_seconds):
                _, lane = await self.loop.create_unix_connection(
                    lambda: Lane(self), str(self.address)
                )
        except (OSError, TimeoutError) as problem:
            self._not_opened(task, str(problem) or "timed out")
            return
        if lane.closed:
            self._not_opened(task, "closed at once")
            return
        self._opening.discard(task)
        lane.idle_since = self.loop.time()
        self._lanes.append(lane)
        self._pump()
        if self._closed and not lane.pending:
            lane.drop()

    def _not_opened(self, task: asyncio.Task[None], why: str) -> None:
        """What waits must not wait for lanes that nobody opens any more."""
        self._opening.discard(task)
        if not self._lanes and not self._opening:
            failure = CannotConnect(f"{self.address}: {why}")
            waiting, self._waiting = self._waiting, deque()
            for ticket in waiting:
                self._fail(ticket, failure)

    # Time.

    def _sweep(self) -> None:
        """Give up what is overdue and close what is idle; runs while there is anything to watch."""
        self._sweeper = None
        now = self.loop.time()
        for lane in list(self._lanes):
            if not lane.pending:
                if now - lane.idle_since > self.idle_seconds:
                    lane.drop()
                continue
            for ticket in list(lane.pending):
                if now >= ticket.due:
                    self._fail(ticket, AnswerOverdue(f"no answer within {ticket.seconds:g} s"))
            if all(ticket.asker is None for ticket in lane.pending):
                lane.drop()
        while self._waiting and now >= self._waiting[0].due:
            text = f"no connection became free within {self.waiting_seconds:g} s"
            self._fail(self._waiting.popleft(), PoolBusy(text))
        if self._lanes or self._waiting:
            self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def _fail(self, ticket: Ticket, problem: UpstreamFailure) -> None:
        asker, ticket.asker = ticket.asker, None
        if asker is not None:
            self.outstanding -= 1
            asker.failed(problem)
