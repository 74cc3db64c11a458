"""Control's front: HTTP/1.1 keep-alive on a Unix socket, one thread for each connection of the door's bounded pool."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

import httptools

from clary.wire.http import Request, Response

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 128
READ_BYTES = 256 * 1024
IDLE_SECONDS_MAX = 600.0
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class _Reader:
    """What httptools finds in the bytes of one connection."""

    def __init__(self, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self.complete: list[
            tuple[Request, bool]
        ] = []  # with whether the connection is kept after it
        self.too_large = False
        self.wants_continue = False
        self._begin()

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
        peer = self._headers.pop("x-clary-peer", "127.0.0.1")
        method = self.parser.get_method().decode("latin-1")
        request = Request(method, target, query, self._headers, b"".join(self._body), peer)
        self.complete.append((request, self.parser.should_keep_alive()))

    parser: httptools.HttpRequestParser


class Listener:
    """Serves `handle` until `close`; requests in flight are finished first."""

    def __init__(
        self, path: Path, handle: Callable[[Request], Response], body_bytes_max: int
    ) -> None:
        self._path = path
        self._handle = handle
        self._body_bytes_max = body_bytes_max
        self._slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._closing = threading.Event()
        self._connections: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._socket = self._listen()
        self._thread = threading.Thread(target=self._accept, name="listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes `accept`, which closing does not
        self._socket.close()
        self._path.unlink(missing_ok=True)
        with self._guard:
            held = list(self._connections)
        for connection in held:
            # Readers wake up and leave; a request being answered is finished by its own thread.
            with suppress(OSError):  # its thread may have closed it by now
                connection.shutdown(socket.SHUT_RD)

    def _listen(self) -> socket.socket:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._path))
        self._path.chmod(0o600)
        listener.listen(CONNECTIONS_MAX)
        return listener

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed under us: that is how `close` ends this thread
            self._slots.acquire()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._guard:
            self._connections.add(connection)
            is_late = self._closing.is_set()  # then `close` may not have seen this connection
        try:
            connection.settimeout(IDLE_SECONDS_MAX)
            if not is_late:
                self._converse(connection)
        except OSError as problem:
            log.debug("a connection of the door ended: %s", problem)
        finally:
            with self._guard:
                self._connections.discard(connection)
            connection.close()
            self._slots.release()

    def _converse(self, connection: socket.socket) -> None:
        reader = _Reader(self._body_bytes_max)
        reader.parser = httptools.HttpRequestParser(reader)
        while True:
            data = connection.recv(READ_BYTES)
            if not data:
                return
            refused = _fed(reader, data)
            for request, keep_alive in reader.complete:
                connection.sendall(_encode(self._handle(request), keep_alive=keep_alive))
                if not keep_alive:
                    return
            reader.complete.clear()
            if refused:
                connection.sendall(_encode(Response(refused), keep_alive=False))
                return
            if reader.wants_continue:
                reader.wants_continue = False
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def _fed(reader: _Reader, data: bytes) -> int:
    """Take in bytes; the status that ends the connection, or 0."""
    try:
        reader.parser.feed_data(data)
    except httptools.HttpParserError:
        return 400
    return 413 if reader.too_large else 0


def _encode(response: Response, *, keep_alive: bool) -> bytes:
    reason = _REASONS.get(response.status, "Unknown")
    lines = [f"HTTP/1.1 {response.status} {reason}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    lines.append(f"Content-Length: {len(response.body)}")
    if not keep_alive:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + response.body
