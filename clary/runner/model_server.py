"""The model server of this host, as a batch transform calls it over its socket."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from . import sockets
from .connections import Answer, Connection, Pool, jittered

CONNECT_SECONDS = 5.0
RETRY_SECONDS_MAX = 5.0
ANSWER_BYTES_MAX = 512 * 1024 * 1024
SHOWN_BYTES_MAX = 4096
_READ_BYTES = 1024 * 1024


class Reply(NamedTuple):
    content_type: str
    body: bytes


class InvocationFault(Exception):
    """The model did not do it, retries included; `status` is 0 where there was no HTTP answer."""

    def __init__(self, status: int, message: str, said: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.said = said.decode("utf-8", "replace").strip()

    @property
    def may_pass(self) -> bool:
        return self.status in (0, 429) or self.status >= 500


class Abandoned(Exception):
    """The host is to stop: nothing further is asked of the model."""


class ModelServer:
    """Safe for several threads, each of which has a request under way at most."""

    def __init__(
        self,
        path: str,
        *,
        timeout_seconds: float,
        retries: int,
        stopping: Callable[[], bool],
    ) -> None:
        self._pool = _SocketPool(path, timeout_seconds)
        self._seconds = timeout_seconds
        self._retries = retries
        self._stopping = stopping
        self._never = threading.Event()  # waited for where there is nothing to wait for but time

    def close(self) -> None:
        self._pool.close()

    def execution_parameters(self) -> dict[str, Any]:
        """What the container says of itself; empty where it says nothing that can be read."""
        try:
            answer = self._pool.exchange("GET", "/execution-parameters", {"accept": "*/*"})
            body = answer.read(bound=64 * 1024)
            document = json.loads(body) if answer.status == 200 else {}
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def invoke(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send one request, again where that may help; raise InvocationFault or Abandoned."""
        return self.retried(lambda: self._invoke_once(body, headers))

    def retried(self, attempt: Callable[[], Reply]) -> Reply:
        """Repeat an attempt that fails for a reason that may pass, as ModelClientConfig says."""
        failures = 0
        while True:
            if self._stopping():
                raise Abandoned
            try:
                return attempt()
            except InvocationFault as fault:
                if self._stopping():
                    raise Abandoned from fault
                if not fault.may_pass or failures >= self._retries:
                    raise
            failures += 1
            self._pause(jittered(failures + 1, RETRY_SECONDS_MAX))

    def stream(
        self, pieces: Iterator[bytes], headers: Mapping[str, str], take: Callable[[bytes], object]
    ) -> Reply:
        """Send a body of unknown length in chunks and hand the answer on as it comes; one attempt.

        The reply's body is empty: `take` had it. What `pieces` and `take` raise is raised here.
        """
        connection = self._chunked_connection(pieces)
        try:
            answer = connection.post(self._pool.chunked_head(headers))
            said = self._received(answer, math.inf)
            if not 200 <= answer.status < 300:
                raise _refusal(answer.status, _start(said))
            for piece in said:
                take(piece)
            connection.sent()
            return Reply(answer.headers.get("content-type", ""), b"")
        except (InvocationFault, OSError) as problem:
            connection.raise_fault()
            if isinstance(problem, InvocationFault):
                raise
            raise self._unanswered(problem) from problem
        finally:
            connection.close()

    def _chunked_connection(self, pieces: Iterator[bytes]) -> _ChunkedConnection:
        try:
            return _ChunkedConnection(self._pool, pieces)
        except OSError as problem:
            raise self._unanswered(problem) from problem

    def _invoke_once(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        deadline = time.monotonic() + self._seconds
        try:
            answer = self._pool.exchange("POST", "/invocations", headers, body)
        except OSError as problem:
            raise self._unanswered(problem) from problem
        said = self._received(answer, deadline)
        try:
            if not 200 <= answer.status < 300:
                raise _refusal(answer.status, _start(said))
            return Reply(answer.headers.get("content-type", ""), _joined(said))
        finally:
            answer.close()

    def _received(self, answer: Answer, deadline: float) -> Iterator[bytes]:
        """An answer's body, piece by piece."""
        buffer = memoryview(bytearray(min(answer.length or 65536, _READ_BYTES) or 1))
        while True:
            try:
                count = answer.read_into(buffer)
                if count and time.monotonic() > deadline:
                    raise socket.timeout("timed out")  # noqa: UP041 - Python 3.8
            except OSError as problem:
                answer.close()
                raise self._unanswered(problem) from problem
            if not count:
                return
            yield bytes(buffer[:count])

    def _unanswered(self, problem: OSError) -> InvocationFault:
        cause = problem.__cause__ or problem
        if isinstance(cause, socket.timeout):
            seconds = f"{self._seconds:g} seconds"
            return InvocationFault(
                0, f"Model server did not respond to /invocations request within {seconds}"
            )
        return InvocationFault(0, f"Unable to get response from algorithm: {problem}")

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping() and time.monotonic() < until:
            self._never.wait(min(0.1, max(0.0, until - time.monotonic())))


def request_headers(content_type: str, accept: str) -> dict[str, str]:
    """The headers of an invocation; what the job does not say is not sent."""
    given = {"content-type": content_type, "accept": accept}
    return {name: value for name, value in given.items() if value}


def _start(pieces: Iterator[bytes]) -> bytes:
    """As much of a refusal's reason as is told."""
    found = b""
    for piece in pieces:
        found += piece
        if len(found) >= SHOWN_BYTES_MAX:
            break
    return found[:SHOWN_BYTES_MAX]


def _joined(pieces: Iterator[bytes]) -> bytes:
    parts: list[bytes] = []
    size = 0
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size > ANSWER_BYTES_MAX:
            raise InvocationFault(
                413, f"The model's answer is longer than {ANSWER_BYTES_MAX} bytes"
            )
    return b"".join(parts)


def _refusal(status: int, said: bytes) -> InvocationFault:
    return InvocationFault(status, f"Bad HTTP status received from algorithm: {status}", said)


class _SocketPool(Pool):
    """Connections to one Unix socket."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("http://localhost", answer_seconds=seconds)
        self._path = path
        self._seconds = seconds

    def open_socket(self) -> socket.socket:
        opened = sockets.connect(self._path, CONNECT_SECONDS)
        opened.settimeout(self._seconds)
        return opened

    def chunked_head(self, headers: Mapping[str, str]) -> bytes:
        lines = ["POST /invocations HTTP/1.1", f"host: {self.authority}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append("transfer-encoding: chunked")
        return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n"


class _ChunkedConnection(Connection):
    """Sends its body from a thread of its own: a server may answer before it has read all of it."""

    def __init__(self, pool: Pool, pieces: Iterator[bytes]) -> None:
        super().__init__(pool)
        self._pieces = pieces
        self._fault: BaseException | None = None
        self._sender = threading.Thread(target=self._send_all, name="chunks", daemon=True)

    def post(self, head: bytes) -> Answer:
        self._socket.sendall(head)
        self._sender.start()
        status, headers = self._read_head()
        return Answer(self, "POST", status, headers)

    def sent(self) -> None:
        """Wait for the end of the body; the server has answered, so it has read what it wanted."""
        self._sender.join(CONNECT_SECONDS)
        self.raise_fault()

    def raise_fault(self) -> None:
        """Raise what went wrong with the pieces themselves, which is why the answer is not there."""
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        self._wake()
        super().close()
        if self._sender.ident is not None:
            self._sender.join(CONNECT_SECONDS)

    def _send_all(self) -> None:
        try:
            for piece in self._pieces:
                if piece and not self._send_piece(b"%x\r\n%b\r\n" % (len(piece), piece)):
                    return
            self._send_piece(b"0\r\n\r\n")
        except BaseException as fault:  # noqa: BLE001 - raised in the thread that waits for the answer
            self._fault = fault
            self._wake()

    def _send_piece(self, data: bytes) -> bool:
        """False when the server stopped reading: its answer, or the lack of one, says why."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def _wake(self) -> None:
        """End the waits of both threads on this socket; it may be gone already."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
