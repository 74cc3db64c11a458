"""One connection to a model server, and the answers that it cuts out of what arrives."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

from clary.dataplane.answer_heads import AnswerHead
from clary.dataplane.answer_pieces import Pieces
from clary.dataplane.upstream import CannotConnect, ConnectionLost, UpstreamFailure

if TYPE_CHECKING:
    from clary.dataplane.lanes import Lanes

JOINED_BYTES_MAX = 64 * 1024  # up to this, one copy costs less than a vector of pieces
HEAD_BYTES_MAX = 64 * 1024


class Asker(Protocol):
    """Who submitted a request. Exactly one of the two is called, once, on the event loop."""

    def answered(self, head: AnswerHead, body: bytes | None) -> None:
        """`body` is None where it was longer than is passed on."""
        ...

    def failed(self, problem: UpstreamFailure) -> None: ...


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
        if self._pieces is not None and self._pieces.end_with_connection:
            self._deliver(self._pieces.head, bytes(self._pieces.body), reusable=False)
            if self.closed:
                return
        self.closed = True
        problem = ConnectionLost("the connection closed before the answer was complete")
        self.lanes.lost(self, problem)

    def data_received(self, data: bytes) -> None:
        try:
            if self._pieces is not None:
                data = self._feed_pieces(data)
            if data and not self.closed:
                self._take(data)
        except ValueError as problem:
            self.drop(ConnectionLost(f"the answer is not HTTP: {problem}"))

    def _take(self, data: bytes) -> None:
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
        used = self._cut(data)
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
                self._pieces = Pieces(head, self.lanes.body_bytes_max)
                at = len(data) - len(self._feed_pieces(data[start:]))
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

    def _feed_pieces(self, data: bytes) -> bytes:
        """Hand the data to the answer without a length; return what is behind that answer's end."""
        pieces = self._pieces
        assert pieces is not None
        used = pieces.feed(data)
        if pieces.too_large:
            self._deliver(pieces.head, None, reusable=False)
            return b""
        if used < 0:
            return b""
        self._pieces = None
        self._deliver(pieces.head, bytes(pieces.body), reusable=pieces.head.reusable)
        return data[used:]

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
