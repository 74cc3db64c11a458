"""The connections of the model server: HTTP/1.1 with keep-alive and pipelining."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clary.workloads.serving.chunks import Chunks
from clary.workloads.serving.heads import BadRequest, Head, Heads
from clary.workloads.serving.responses import Responses
from clary.workloads.serving.streams import Stream

HEAD_MAX = 1 << 16
PIPELINED_MAX = 128
HELD_SECONDS_MAX = 0.001  # that an answer waits for others of its turn; one fold takes less


class Exchange:
    """One request of a connection and the place of its response in the order of responses."""

    __slots__ = ("connection", "keep_alive", "may_chunk", "response", "started", "stream")

    def __init__(self, connection: Connection, *, keep_alive: bool, may_chunk: bool = True) -> None:
        self.connection = connection
        self.keep_alive = keep_alive
        self.may_chunk = may_chunk
        self.response: bytes | None = None
        self.stream: Stream | None = None
        self.started = False

    def reply(self, answer: tuple[int, str, Any]) -> None:
        """Send the answer as soon as all earlier requests of the connection are answered."""
        connection = self.connection
        if isinstance(answer[2], Stream):
            self._reply_with_stream(answer[0], answer[1], answer[2])
            return
        # A connection that is ending says so with its last response only.
        keep_alive = self.keep_alive and not connection.ends_with(self)
        self.response = connection.site.responses.build(
            answer[0], answer[1], answer[2], keep_alive=keep_alive
        )
        connection.flush()

    def _reply_with_stream(self, status: int, content_type: str, stream: Stream) -> None:
        if self.connection.lost:
            stream.cancel()
            return
        # Without chunks only the end of the connection can tell the end of the answer.
        self.keep_alive = self.keep_alive and self.may_chunk
        self.stream = stream
        self.response = self.connection.site.responses.begin(
            status, content_type, chunked=self.may_chunk, keep_alive=self.keep_alive
        )
        self.connection.flush()

    # -- called by the stream, whose sink this is -------------------------------------------------

    def write(self, piece: bytes) -> bool:
        """Send one piece; False while the client does not keep up."""
        if self.may_chunk:
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        return self.connection.send(piece)

    def end(self) -> None:
        """Send the end and let the next response have its turn."""
        self.stream = None
        self.response = b"0\r\n\r\n" if self.may_chunk else b""
        self.connection.flush()

    def fail(self) -> None:
        """Cut the connection: without its last chunk, the answer is seen to be broken."""
        self.stream = None
        self.connection.abort()


@dataclass
class Site:
    """What all connections of a process share."""

    route: Callable[[Head, bytes, Exchange], None]
    body_max: int
    connections_max: int
    heads: Heads
    responses: Responses
    connections: set[Connection]
    call_soon: Callable[[Callable[[], None]], Any]

    def descriptors(self) -> list[int]:
        """The file descriptors of all connections."""
        return [connection.descriptor() for connection in self.connections]


class Connection(asyncio.Protocol):
    """One client: cuts its bytes into requests, keeps its responses in order."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.closing = False
        self.partial_since = 0.0
        self.lingering = False
        self.lost = False
        self._transport: Any = None
        self._buffer = bytearray()
        self._head: Head | None = None
        self._chunks: Chunks | None = None
        self._pending: deque[Exchange] = deque()
        self._ready: list[bytes] = []
        self._held = 0.0  # since when what is ready waits for the end of the turn
        self._reading = True
        self._writable = True
        self._half_closed = False

    # -- called by the event loop ---------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if len(self.site.connections) >= self.site.connections_max:
            transport.write(
                self.site.responses.build(
                    503, "text/plain", b"Too many connections.", keep_alive=False
                )
            )
            self.closing = True
            transport.close()
            return
        self.site.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.site.connections.discard(self)
        self.closing = self.lost = True
        for exchange in self._pending:
            if exchange.stream is not None:
                exchange.stream.cancel()
        self._pending.clear()
        self._ready.clear()

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        if not self._buffer and self._head is None and self._reading:
            data = self._take_whole(data)
            if not data:
                return
        self._buffer += data
        self._advance()

    def _take_whole(self, data: bytes) -> bytes:
        """Dispatch the requests that are there as a whole, the usual case; return what is left."""
        at, size = 0, len(data)
        while at < size and self._reading and not self.closing:
            end = data.find(b"\r\n\r\n", at, at + HEAD_MAX + 4)
            if end <= at:
                break
            try:
                head = self.site.heads.parse(data[at:end])
            except BadRequest as problem:
                self._refuse(problem)
                return b""
            stop = end + 4 + head.length
            if stop > size or head.chunked or head.length > self.site.body_max:
                break
            self._dispatch(head, data[end + 4 : stop])
            at = stop
        return data[at:] if at else data

    def eof_received(self) -> bool:
        """The client has sent all it will; keep the way back open for what it still waits for."""
        self._half_closed = True
        return bool(self._pending)

    def pause_writing(self) -> None:
        self._writable = False
        self._throttle()

    def resume_writing(self) -> None:
        self._writable = True
        self._throttle()
        if self._pending and self._pending[0].started and self._pending[0].stream is not None:
            self._pending[0].stream.pull()

    # -- called by exchanges and the server -----------------------------------------------------

    def ends_with(self, exchange: Exchange) -> bool:
        """Say whether this response is the connection's last."""
        return self.closing and bool(self._pending) and self._pending[-1] is exchange

    def send(self, data: bytes) -> bool:
        """Write a piece of a stream; False while no more should come."""
        if self.lost or self._transport.is_closing():
            return False
        self._transport.write(data)
        return self._writable

    def flush(self) -> None:
        """Write every response whose turn has come.

        Requests that were predicted together are answered one after another: while more answers
        are due on this connection, they wait for the end of the turn and leave in one piece. In a
        turn of many predictions, of as many models, who waits for the first ones need not wait on.
        """
        pending, ready = self._pending, self._ready
        while pending:
            exchange = pending[0]
            response = exchange.response
            if response is None:
                break
            if self._transport.is_closing():
                # connection_lost follows, and sees to what is pending.
                return
            if exchange.stream is not None:
                if not exchange.started:
                    exchange.started = True
                    ready.append(response)
                    self._write_ready()
                    exchange.stream.start(exchange)
                return
            pending.popleft()
            ready.append(response)
            if not exchange.keep_alive:
                self.closing = True
        if pending:
            if ready:
                self._hold()
        else:
            self._write_ready()
            if self.closing or self._half_closed:
                self._close()
                return
        if not self._reading:
            self._throttle()

    def _hold(self) -> None:
        now = time.perf_counter()
        if not self._held:
            self._held = now
            self.site.call_soon(self._write_ready)
        elif now - self._held > HELD_SECONDS_MAX:
            self._write_ready()
            self._held = now

    def _write_ready(self) -> None:
        self._held = 0.0
        ready = self._ready
        if ready and not self._transport.is_closing():
            self._transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
            ready.clear()

    def descriptor(self) -> int:
        """The connection's file descriptor; -1 if it has none any more."""
        found = self._transport.get_extra_info("socket") if self._transport else None
        return found.fileno() if found is not None else -1

    def finish(self) -> None:
        """Answer what has been read, then close; an idle connection closes now."""
        self.closing = True
        if not self._pending and self._transport is not None:
            self._transport.close()

    def expire(self) -> None:
        """Give up on a request that does not arrive in time."""
        self._refuse(BadRequest(408, "The request did not arrive in time."))

    def abort(self) -> None:
        """Drop the connection as it stands."""
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        if not self.lingering or self._half_closed or not self._transport.can_write_eof():
            self._transport.close()
            return
        # The client may still be sending what was refused. Closing now would reset the
        # connection and take the answer with it: say that no more will come, and let it finish.
        self._transport.write_eof()
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()

    # -- parsing --------------------------------------------------------------------------------

    def _advance(self) -> None:
        try:
            while self._buffer and not self.closing and self._reading and self._step():
                pass
        except BadRequest as problem:
            self._refuse(problem)
        if self._buffer or self._head is not None or self.lingering:
            self.partial_since = self.partial_since or time.monotonic()
        else:
            self.partial_since = 0.0

    def _step(self) -> bool:
        """Take one more request out of the buffer; False if it is not all there."""
        head = self._head
        if head is None:
            head = self._take_head()
            if head is None:
                return False
        if self._chunks is not None:
            body = self._chunks.feed(self._buffer)
            if body is None:
                return False
        else:
            if len(self._buffer) < head.length:
                return False
            body = bytes(self._buffer[: head.length])
            del self._buffer[: head.length]
        self._head, self._chunks, self.partial_since = None, None, 0.0
        self._dispatch(head, body)
        return True

    def _take_head(self) -> Head | None:
        buffer = self._buffer
        while buffer[:2] == b"\r\n":
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n", 0, HEAD_MAX + 4)
        if end < 0:
            if len(buffer) > HEAD_MAX:
                raise BadRequest(431, f"A request's head has at most {HEAD_MAX} bytes.")
            return None
        head = self.site.heads.parse(bytes(buffer[:end]))
        if head.length > self.site.body_max:
            raise BadRequest(413, f"A request body has at most {self.site.body_max} bytes.")
        del buffer[: end + 4]
        self._head = head
        self._chunks = Chunks(self.site.body_max) if head.chunked else None
        if head.expects_continue and (head.chunked or len(buffer) < head.length):
            self._write_ready()
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return head

    def _dispatch(self, head: Head, body: bytes) -> None:
        exchange = Exchange(self, keep_alive=head.keep_alive, may_chunk=head.may_chunk)
        self._pending.append(exchange)
        if not head.keep_alive:
            # Nothing after this request is read; the connection closes behind its response.
            self._reading = False
            self._transport.pause_reading()
        elif len(self._pending) >= PIPELINED_MAX:
            self._throttle()
        self.site.route(head, body, exchange)

    def _refuse(self, problem: BadRequest) -> None:
        self._buffer.clear()
        self._head, self._chunks, self.partial_since = None, None, time.monotonic()
        self.lingering = True
        exchange = Exchange(self, keep_alive=False)
        self._pending.append(exchange)
        exchange.reply((problem.status, "text/plain", problem.reason.encode("utf-8")))
        self.closing = True

    def _throttle(self) -> None:
        """Read on only while responses leave and few requests wait."""
        wanted = self._writable and len(self._pending) < PIPELINED_MAX and not self.closing
        if wanted == self._reading or self._transport.is_closing():
            return
        if any(not exchange.keep_alive for exchange in self._pending):
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
            if self._buffer:
                self._advance()
        else:
            self._transport.pause_reading()
