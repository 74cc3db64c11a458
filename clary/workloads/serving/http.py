"""HTTP/1.1 for the model server: a strict parser and a connection with keep-alive and pipelining.

Clients on a kept-alive connection send the same head again and again, so heads are remembered
by their bytes: a known head costs one dictionary look-up, less than a callback into any parser.
Whatever is not plain HTTP/1.1 is refused and the connection closed: a request must never be
understood in two ways.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from clary.workloads.serving.streams import Stream

HEAD_MAX = 1 << 16
HEADERS_MAX = 128
REMEMBERED_HEADS_MAX = 4096
REMEMBERED_HEAD_BYTES_MAX = 4096
PIPELINED_MAX = 128
CHUNK_LINE_MAX = 256

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_HEX = re.compile(rb"[0-9A-Fa-f]{1,15}")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class BadRequest(Exception):
    """Bytes that are not a request this server answers; the connection ends after the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Head:
    """The request line and the headers of one request."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    length: int
    chunked: bool
    keep_alive: bool
    expects_continue: bool
    may_chunk: bool  # HTTP/1.0 clients know no chunks


class Heads:
    """Parses heads and remembers the short ones."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def parse(self, raw: bytes) -> Head:
        """Return the head; `BadRequest` where it is not plain HTTP/1.1 or 1.0."""
        head = self._known.get(raw)
        if head is None:
            head = parse_head(raw)
            if len(raw) <= REMEMBERED_HEAD_BYTES_MAX:
                if len(self._known) >= REMEMBERED_HEADS_MAX:
                    self._known.clear()
                self._known[raw] = head
        return head


def parse_head(raw: bytes) -> Head:
    """Parse a head without its closing blank line."""
    lines = raw.split(b"\r\n")
    words = lines[0].split(b" ")
    if len(words) != 3 or not _TOKEN.fullmatch(words[0]) or not _TARGET.fullmatch(words[1]):
        raise BadRequest(400, "The request line is malformed.")
    if words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise BadRequest(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    if len(lines) - 1 > HEADERS_MAX:
        raise BadRequest(431, f"A request has at most {HEADERS_MAX} headers.")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or _CONTROL.search(value):
            raise BadRequest(400, "A header line is malformed.")
        key = name.decode("ascii").lower()
        text = value.strip(b" \t").decode("latin-1")
        if key in headers:
            if key in ("content-length", "transfer-encoding", "host"):
                raise BadRequest(400, f"The header {key} is given twice.")
            text = headers[key] + ", " + text
        headers[key] = text
    return _head(words, headers)


def _head(words: list[bytes], headers: dict[str, str]) -> Head:
    coding = headers.get("transfer-encoding")
    size = headers.get("content-length")
    if coding is not None and (coding.lower() != "chunked" or size is not None):
        raise BadRequest(400, "Transfer-Encoding must be chunked, without a Content-Length.")
    if size is not None and not _DIGITS.fullmatch(size.encode("latin-1")):
        raise BadRequest(400, "The Content-Length is not a number.")
    connection = headers.get("connection", "").lower()
    old = words[2] == b"HTTP/1.0"
    path, _, query = words[1].decode("ascii").partition("?")
    return Head(
        method=words[0].decode("ascii"),
        path=path,
        query=query,
        headers=MappingProxyType(headers),
        length=int(size or 0),
        chunked=coding is not None,
        keep_alive="keep-alive" in connection if old else "close" not in connection,
        expects_continue=headers.get("expect", "").lower() == "100-continue",
        may_chunk=not old,
    )


class Chunks:
    """Takes the chunked body of one request out of a buffer, piece by piece."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._trailer = False

    def feed(self, buffer: bytearray) -> bytes | None:
        """Consume what is complete; return the body once its last chunk is in."""
        while True:
            line_end = buffer.find(b"\r\n", 0, CHUNK_LINE_MAX)
            if line_end < 0:
                if len(buffer) >= CHUNK_LINE_MAX:
                    raise BadRequest(400, "A chunk's size line is too long.")
                return None
            if self._trailer:
                del buffer[: line_end + 2]
                if not line_end:
                    return b"".join(self._parts)
                continue
            word = bytes(buffer[:line_end]).partition(b";")[0].strip()
            if not _HEX.fullmatch(word):
                raise BadRequest(400, "A chunk's size is not a number.")
            size = int(word, 16)
            if self._size + size > self._limit:
                raise BadRequest(413, f"A request body has at most {self._limit} bytes.")
            if not size:
                self._trailer = True
                del buffer[: line_end + 2]
                continue
            end = line_end + 2 + size
            if len(buffer) < end + 2:
                return None
            if buffer[end : end + 2] != b"\r\n":
                raise BadRequest(400, "A chunk does not end where its size says.")
            self._parts.append(bytes(buffer[line_end + 2 : end]))
            self._size += size
            del buffer[: end + 2]


class Responses:
    """Builds responses; the start of each is the same but for its length, and remembered."""

    def __init__(self) -> None:
        self._starts: dict[tuple[int, str, bool], bytes] = {}

    def build(self, status: int, content_type: str, body: bytes, *, keep_alive: bool) -> bytes:
        """Return the bytes of one response."""
        key = (status, content_type, keep_alive)
        start = self._starts.get(key)
        if start is None:
            start = _response_start(status, content_type, keep_alive=keep_alive)
            if len(self._starts) >= 256:
                self._starts.clear()
            self._starts[key] = start
        return b"%bContent-Length: %d\r\n\r\n%b" % (start, len(body), body)

    def begin(self, status: int, content_type: str, *, chunked: bool, keep_alive: bool) -> bytes:
        """Return the head of a response whose length nobody knows yet."""
        start = _response_start(status, content_type, keep_alive=keep_alive)
        return start + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n")


def _response_start(status: int, content_type: str, *, keep_alive: bool) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Status"
    kind = re.sub(r"[^\x20-\x7e]", "", content_type)
    lines = [f"HTTP/1.1 {status} {phrase}"]
    if kind:
        lines.append(f"Content-Type: {kind}")
    if not keep_alive:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n").encode("ascii")


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
        self._held = False  # whether what is ready waits for the end of the turn
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
        are due on this connection, they wait for the end of the turn and leave in one piece.
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
            if ready and not self._held:
                self._held = True
                self.site.call_soon(self._write_ready)
        else:
            self._write_ready()
            if self.closing or self._half_closed:
                self._close()
                return
        if not self._reading:
            self._throttle()

    def _write_ready(self) -> None:
        self._held = False
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
