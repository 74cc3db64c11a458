"""Control's front: HTTP/1.1 keep-alive on a Unix socket, answered by one thread as long as that goes quickly.

    leader ── waits for all connections ── reads ── handles ── writes ── waits ...
       │ held up for PATIENCE_SECONDS
       └─▶ another thread leads; the held-up one sends its answer when it has it, and then waits its turn

Threads that hand each other requests, or the interpreter's lock, cost a call more than its answer does.
"""

from __future__ import annotations

import logging
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

import httptools

from clary.wire.http import Request, Response
from clary.wire.request_heads import Head, RequestHeads

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 128
THREADS_MAX = 64
IDLE_THREADS_MAX = 4
PATIENCE_SECONDS = 0.02
READ_BYTES = 64 * 1024
SEND_SECONDS_MAX = 60  # for the door to take an answer
PEER = "x-clary-peer"
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT


class _Reader:
    """What httptools finds in the bytes of one connection."""

    def __init__(self, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self.complete: list[
            tuple[Request, bool]
        ] = []  # with whether the connection is kept after it
        self.too_large = False
        self.wants_continue = False
        self.parser = httptools.HttpRequestParser(self)
        self._begin()

    def feed(self, data: bytes) -> int:
        """Take in bytes; the status that ends the connection, or 0."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            return 400
        return 413 if self.too_large else 0

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0

    def on_message_begin(self) -> None:
        self._begin()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known},{text}"

    def on_headers_complete(self) -> None:
        self.wants_continue = self._headers.get("expect", "").lower() == "100-continue"
        # What is announced as too large need not be sent first.
        announced = self._headers.get("content-length", "")
        self.too_large |= announced.isdigit() and int(announced) > self._body_bytes_max

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._body_bytes_max:
            self.too_large = True
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self.too_large:
            return  # its body is not whole
        target, _, query = self._url.decode("latin-1").partition("?")
        peer = self._headers.pop(PEER, "127.0.0.1")
        method = self.parser.get_method().decode("latin-1")
        request = Request(method, target, query, self._headers, b"".join(self._body), peer)
        self.complete.append((request, self.parser.should_keep_alive()))


class _Connection:
    """One connection of the door, and what is known of a request that has not arrived whole."""

    __slots__ = ("busy", "descriptor", "head", "reader", "received", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.descriptor = connected.fileno()
        self.busy = False  # a thread reads from it, or answers what it read
        self.head: Head | None = None
        self.received = bytearray()  # of a plain request whose body is not complete
        self.reader: _Reader | None = None  # once something came that is not plain


class Listener:
    """Serves `handle` until `close`; requests in flight are finished first."""

    def __init__(
        self,
        path: Path,
        handle: Callable[[Request], Response],
        body_bytes_max: int,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """No patience, where most requests wait for another machine, lets each have its own thread."""
        self._path = path
        self._handle = handle
        self._body_bytes_max = body_bytes_max
        self._patience = patience_seconds
        self._heads = RequestHeads()
        self._connections: dict[int, _Connection] = {}
        self._socket = self._listen()
        self._epoll = select.epoll()
        self._epoll.register(self._socket, select.EPOLLIN)
        self._closing = False
        # The leadership: a thread leads for one term; the others wait for the next.
        self._guard = threading.Condition()
        self._term = 0
        self._vacant = True
        self._threads = 0
        self._idle = 0
        # What the watch looks at: whether the leader is busy, and whether that is still with the same request.
        self._busy = False
        self._handled = 0
        self._stirred = threading.Event()

    def start(self) -> None:
        with self._guard:
            self._add_thread()
        if self._patience:
            threading.Thread(target=self._watch, name="listener-watch", daemon=True).start()

    def close(self) -> None:
        with self._guard:
            self._closing = True
            self._path.unlink(missing_ok=True)
            self._end_idle()
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the leader
            self._guard.notify_all()
        self._stirred.set()

    def _end_idle(self) -> None:
        """Close what no thread works on; needs the guard."""
        for connection in list(self._connections.values()):
            if not connection.busy:
                self._drop(connection)
        if not self._threads:
            self._socket.close()
            self._epoll.close()

    def _listen(self) -> socket.socket:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._path))
        self._path.chmod(0o600)
        listener.listen(CONNECTIONS_MAX)
        return listener

    # Threads and the leadership.

    def _add_thread(self) -> None:
        self._threads += 1
        threading.Thread(target=self._work, name="listener", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._guard:
                self._idle += 1
                if self._idle <= IDLE_THREADS_MAX:
                    self._guard.wait_for(lambda: self._vacant or self._closing)
                self._idle -= 1
                if self._closing or not self._vacant:
                    self._threads -= 1
                    if self._closing:
                        self._end_idle()
                    return
                self._vacant = self._busy = False
                self._term += 1
                term = self._term
            self._lead(term)

    def _hand_over(self, term: int) -> None:
        """Let another thread lead, unless the leader of that term has been replaced already."""
        with self._guard:
            if self._term != term or self._vacant:
                return
            self._vacant = True
            if self._idle:
                self._guard.notify()
            elif self._threads < THREADS_MAX:
                self._add_thread()

    def _watch(self) -> None:
        """Replace a leader that is held up; sleeps while nothing is asked."""
        while not self._closing:
            self._stirred.wait()
            term, handled = self._term, self._handled
            time.sleep(self._patience)
            if self._term != term or self._handled != handled:
                continue
            if self._busy:
                self._hand_over(term)
                continue
            self._stirred.clear()
            if self._handled != handled or self._closing:
                self._stirred.set()  # that was between the two looks

    def _lead(self, term: int) -> None:
        while self._term == term and not self._vacant and not self._closing:
            for descriptor, _ in self._epoll.poll(maxevents=1):
                connection = self._connections.get(descriptor)
                if connection is not None:
                    self._serve(connection, term)
                elif descriptor == self._socket.fileno() and not self._closing:
                    self._accept()

    # Connections.

    def _accept(self) -> None:
        try:
            connected, _ = self._socket.accept()
        except OSError:
            return  # the client left before it was let in
        limit = struct.pack("ll", SEND_SECONDS_MAX, 0)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._connections[connected.fileno()] = _Connection(connected)
        self._epoll.register(connected, _READABLE)
        if len(self._connections) >= CONNECTIONS_MAX:
            self._epoll.modify(self._socket, 0)

    def _serve(self, connection: _Connection, term: int) -> None:
        """Answer what has arrived, then wait for more, or end the connection."""
        connection.busy = True
        try:
            kept = self._converse(connection, term)
        except OSError as problem:
            log.debug("a connection of the door ended: %s", problem)
            kept = False
        except Exception:
            log.exception("a request of the door failed")  # and the next one finds a leader still
            kept = False
        connection.busy = False
        if kept and not self._closing:
            with suppress(OSError):  # `close` came between
                self._epoll.modify(connection.descriptor, _READABLE)
            return
        with self._guard:
            self._drop(connection)
            if len(self._connections) == CONNECTIONS_MAX - 1 and not self._closing:
                self._epoll.modify(self._socket, select.EPOLLIN)

    def _drop(self, connection: _Connection) -> None:
        self._connections.pop(connection.descriptor, None)
        connection.socket.close()

    def _converse(self, connection: _Connection, term: int) -> bool:
        """Whether the connection is kept."""
        try:
            data = connection.socket.recv(READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        if not data:
            return False
        if connection.reader is None:
            plain = self._plain(connection, data)
            if plain is None:
                return True
            if isinstance(plain, Request):
                connection.socket.sendall(_encode(self._answer(plain, term), keep_alive=True))
                return True
            data = plain
        if connection.reader is None:
            connection.reader = _Reader(self._body_bytes_max)
        return self._feed(connection.socket, connection.reader, data, term)

    def _plain(self, connection: _Connection, data: bytes) -> Request | bytes | None:
        """The request, if it is a plain one and whole; None until it is; the bytes of any other."""
        if connection.head is not None:
            connection.received += data
            if len(connection.received) < connection.head.size:
                return None
            data = bytes(connection.received)
            connection.received.clear()
        head = connection.head or self._heads.parse(data)
        connection.head = None
        if head is None or len(data) > head.size or not head.keep_alive:
            return data
        if head.size - head.body_at > self._body_bytes_max:
            return data
        if len(data) < head.size:
            connection.head = head
            connection.received += data
            return None
        peer = head.headers.pop(PEER, "127.0.0.1")
        return Request(head.method, head.path, head.query, head.headers, data[head.body_at :], peer)

    def _feed(self, connected: socket.socket, reader: _Reader, data: bytes, term: int) -> bool:
        refused = reader.feed(data)
        for request, keep_alive in reader.complete:
            connected.sendall(_encode(self._answer(request, term), keep_alive=keep_alive))
            if not keep_alive:
                return False
        reader.complete.clear()
        if refused:
            connected.sendall(_encode(Response(refused), keep_alive=False))
            return False
        if reader.wants_continue:
            reader.wants_continue = False
            connected.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _answer(self, request: Request, term: int) -> Response:
        if not self._patience:
            self._hand_over(term)
            return self._handle(request)
        if self._term != term:
            return self._handle(request)  # another leads already
        self._busy = True
        self._handled += 1
        if not self._stirred.is_set():
            self._stirred.set()
        try:
            return self._handle(request)
        finally:
            if self._term == term:
                self._busy = False


def _encode(response: Response, *, keep_alive: bool) -> bytes:
    reason = _REASONS.get(response.status, "Unknown")
    lines = [f"HTTP/1.1 {response.status} {reason}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    lines.append(f"Content-Length: {len(response.body)}")
    if not keep_alive:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + response.body
