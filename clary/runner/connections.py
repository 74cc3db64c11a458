"""Keep-alive HTTP/1.1 connections to one plain endpoint, with bodies streamed both ways.

`http.client` drags in `ssl` and `email` and parses headers as e-mail, which is more than half of
what a small job's runner does before its program starts. The runner talks to one server, plainly,
so this speaks just that: lengths, chunks, keep-alive, 1xx.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

HEAD_BYTES_MAX = 64 * 1024
LINE_BYTES_MAX = 8 * 1024
IDLE_MAX = 16
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 120.0
# A request that was given up, or whose runner was killed, must not arrive any more: the kernel of a machine
# that is cut off would send it minutes later, over what another run of the job has stored since then.
_DROP = struct.pack("ii", 1, 0)


class ProtocolFault(OSError):
    """The peer's bytes are not the HTTP that was asked for, or end too early: try again."""


class FileShrank(Exception):
    """A file became shorter than announced while it was sent: the caller looks at it afresh."""


class FileSlice(NamedTuple):
    """A part of an open file, sent without passing through this process's memory."""

    descriptor: int
    offset: int
    size: int


def jittered(attempt: int, longest: float = 2.0) -> float:
    """The pause before a further attempt: doubling from 25 ms, half of it by chance."""
    ceiling = min(longest, 0.025 * 2 ** min(attempt, 16))
    return ceiling * (0.5 + int.from_bytes(os.urandom(2), "big") / 131072)


class Pool:
    """Connections to one endpoint; safe for several threads, each of which holds one at a time."""

    def __init__(self, endpoint_url: str, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.host, self.port = _address(endpoint_url)
        self.authority = f"[{self.host}]" if ":" in self.host else self.host
        if self.port != 80:
            self.authority += f":{self.port}"
        self._answer_seconds = answer_seconds
        self._idle: list[Connection] = []
        self._lock = threading.Lock()

    def exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | FileSlice = b"",
    ) -> Answer:
        """Send one request and read the head of its answer; raise OSError when that fails."""
        head = _request_head(method, target, self.authority, headers, body)
        connection = self._borrow()
        if connection is not None:
            try:
                return connection.exchange(method, head, body)
            except ProtocolFault:
                # The peer may close an idle connection just as it is used again: once more, afresh.
                connection.close()
            except BaseException:
                connection.close()
                raise
        connection = Connection(self)
        try:
            return connection.exchange(method, head, body)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def give_back(self, connection: Connection) -> None:
        with self._lock:
            if len(self._idle) < IDLE_MAX:
                self._idle.append(connection)
                return
        connection.close()

    def open_socket(self) -> socket.socket:
        # Of a str, getaddrinfo makes IDNA, whose tables take longer to load than a small job's log.
        host: Any = self.host.encode("ascii") if self.host.isascii() else self.host
        opened = socket.create_connection((host, self.port), timeout=CONNECT_SECONDS)
        opened.settimeout(self._answer_seconds)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP)
        return opened

    def _borrow(self) -> Connection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not connection.is_stale():
                return connection
            connection.close()


class Connection:
    """One socket and what was received on it beyond the last answer's head."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._socket = pool.open_socket()
        self._rest = b""

    def is_stale(self) -> bool:
        """An idle connection with something to read was closed, or is out of step."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(self._rest) or bool(poller.poll(0))

    def exchange(self, method: str, head: bytes, body: bytes | FileSlice) -> Answer:
        # A server may refuse a body by answering early and closing; its answer says why.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._send(head, body)
        status, headers = self._read_head()
        return Answer(self, method, status, headers)

    def _send(self, head: bytes, body: bytes | FileSlice) -> None:
        if isinstance(body, FileSlice):
            self._socket.sendall(head)
            self._send_file(body)
        elif len(body) <= 64 * 1024:
            self._socket.sendall(head + body)
        else:
            self._socket.sendall(head)
            self._socket.sendall(body)

    def _send_file(self, body: FileSlice) -> None:
        poller = select.poll()
        poller.register(self._socket, select.POLLOUT)
        offset, left = body.offset, body.size
        while left:
            try:
                sent = os.sendfile(self._socket.fileno(), body.descriptor, offset, left)
            except BlockingIOError as problem:
                if not poller.poll(ANSWER_SECONDS * 1000):
                    raise ProtocolFault("the peer stopped reading the body") from problem
                continue
            if sent == 0:
                raise FileShrank(f"{left} of {body.size} bytes are gone")
            offset += sent
            left -= sent

    def _read_head(self) -> tuple[int, dict[str, str]]:
        while True:
            head = self._receive_until(b"\r\n\r\n", HEAD_BYTES_MAX)
            status, headers = _parse_head(head)
            if status >= 200:
                return status, headers

    def _receive_until(self, mark: bytes, bound: int) -> bytes:
        held = self._rest
        while True:
            end = held.find(mark)
            if end >= 0:
                self._rest = held[end + len(mark) :]
                return held[:end]
            if len(held) > bound:
                raise ProtocolFault("the answer's head is too long")
            more = self._receive(64 * 1024)
            if not more:
                raise ProtocolFault("the connection was closed before an answer")
            held += more

    def _receive(self, count: int) -> bytes:
        try:
            return self._socket.recv(count)
        except OSError as problem:
            raise ProtocolFault(f"no answer: {problem}") from problem

    def line(self) -> bytes:
        return self._receive_until(b"\r\n", LINE_BYTES_MAX)

    def receive_into(self, view: memoryview) -> int:
        """Fill some of `view`; 0 says that the peer closed."""
        if self._rest:
            count = min(len(view), len(self._rest))
            view[:count] = self._rest[:count]
            self._rest = self._rest[count:]
            return count
        try:
            return self._socket.recv_into(view)
        except OSError as problem:
            raise ProtocolFault(f"the answer broke off: {problem}") from problem

    def give_back(self) -> None:
        self._pool.give_back(self)

    def close(self) -> None:
        self._socket.close()


class Answer:
    """A status, headers, and a body to be read to its end (or closed, which drops the socket)."""

    def __init__(
        self, connection: Connection, method: str, status: int, headers: dict[str, str]
    ) -> None:
        self.status = status
        self.headers = headers
        self._connection: Connection | None = connection
        self._reusable = headers.get("connection", "").lower() != "close"
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._left: int | None = None  # None: until the peer closes
        if method == "HEAD" or status in (204, 304):
            self._left = 0
            self._chunked = False
        elif self._chunked:
            self._left = 0
        elif "content-length" in headers:
            self._left = _length(headers["content-length"])
        else:
            self._reusable = False
        if self._left == 0 and not self._chunked:
            self._finish()

    @property
    def length(self) -> int | None:
        """The body's announced length, where there is one."""
        text = self.headers.get("content-length")
        return None if text is None or self._chunked else _length(text)

    def read_into(self, view: memoryview) -> int:
        """Fill some of `view`; 0 at the body's end. A body that ends early raises ProtocolFault."""
        connection = self._connection
        if connection is None or not len(view):
            return 0
        if self._chunked and self._left == 0 and not self._next_chunk(connection):
            return 0
        if self._left is not None:
            view = view[: self._left]
        count = connection.receive_into(view)
        if count == 0:
            if self._left is not None:
                raise ProtocolFault(f"the answer broke off {self._left} bytes early")
            self._finish()
            return 0
        if self._left is not None:
            self._left -= count
            if self._left == 0:
                self._end_of_part(connection)
        return count

    def read(self, bound: int = 64 * 1024 * 1024) -> bytes:
        """The whole body; one longer than `bound` raises ProtocolFault."""
        parts: list[bytes] = []
        total = 0
        buffer = memoryview(bytearray(min(self._left or 65536, 1024 * 1024)))
        while True:
            count = self.read_into(buffer)
            if not count:
                return b"".join(parts)
            total += count
            if total > bound:
                raise ProtocolFault(f"the answer is longer than {bound} bytes")
            parts.append(bytes(buffer[:count]))

    def close(self) -> None:
        """Drop the socket unless the body was read to its end."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _next_chunk(self, connection: Connection) -> bool:
        text = connection.line().split(b";", 1)[0].strip()
        try:
            self._left = int(text, 16)
        except ValueError as problem:
            raise ProtocolFault(f"{text[:40]!r} is not the length of a chunk") from problem
        if self._left:
            return True
        while connection.line():
            continue  # trailers say nothing that is needed here
        self._finish()
        return False

    def _end_of_part(self, connection: Connection) -> None:
        if self._chunked:
            connection.line()
        else:
            self._finish()

    def _finish(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._reusable:
            connection.give_back()
        else:
            connection.close()


def _address(endpoint_url: str) -> tuple[str, int]:
    scheme, separator, rest = endpoint_url.partition("://")
    if scheme != "http" or not separator:
        raise ValueError(f"{endpoint_url!r}: the runner speaks plain http:// to its own server")
    authority = rest.split("/", 1)[0]
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        return authority.strip("[]"), 80
    if not port.isdigit():
        raise ValueError(f"{endpoint_url!r}: {port!r} is not a port")
    return host.strip("[]"), int(port)


def _request_head(
    method: str, target: str, authority: str, headers: Mapping[str, str], body: bytes | FileSlice
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"host: {authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    size = body.size if isinstance(body, FileSlice) else len(body)
    if size or method in ("PUT", "POST"):
        lines.append(f"content-length: {size}")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1:
        raise ValueError("a header holds a line break")
    return text.encode("utf-8") + b"\r\n\r\n"


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise ProtocolFault(f"{first[:80]!r} is not an HTTP answer")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if words[0] == "HTTP/1.0":
        headers.setdefault("connection", "close")
    return int(words[1]), headers


def _length(text: str) -> int:
    if not text.isdigit():
        raise ProtocolFault(f"{text[:40]!r} is not a length")
    return int(text)
