"""The few calls of the Docker Engine API that running one container takes; Podman answers the same ones.

Requests are of HTTP/1.0: answers then come unchunked and end with the connection, whichever engine it is.
"""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from clary.runner import sockets

_VERSION = "/v1.40"  # of Docker 19.03; newer engines and Podman 3 and later know it
_SECONDS_MAX = 120.0
_HEAD_BYTES_MAX = 64 * 1024
_BODY_BYTES_MAX = 16 * 1024 * 1024


class EngineError(Exception):
    """The engine refused, or could not be reached; `status` is 0 in the latter case."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Answer(NamedTuple):
    """An answer of which the body is still to be read from the connection, after what came already."""

    status: int
    connection: socket.socket
    begun: bytes


class Engine:
    """An engine at a Unix socket; each call has a connection of its own."""

    def __init__(self, path: str, seconds: float = _SECONDS_MAX) -> None:
        self.path = path
        self._seconds = seconds

    def create(self, name: str, document: dict[str, Any]) -> str:
        """Make a container; returns its id."""
        return str(self.call("POST", "/containers/create", document, name=name)["Id"])

    def start(self, container: str) -> None:
        self.call("POST", f"/containers/{quote(container)}/start")

    def inspect(self, container: str) -> dict[str, Any] | None:
        """What the engine knows of a container; None where there is none of that name."""
        try:
            return self.call("GET", f"/containers/{quote(container)}/json")
        except EngineError as problem:
            if problem.status == 404:
                return None
            raise

    def kill(self, container: str, signal: int) -> None:
        """Signal the container's first process; nothing happens where it has ended."""
        try:
            self.call("POST", f"/containers/{quote(container)}/kill", signal=str(signal))
        except EngineError as problem:
            if problem.status not in (404, 409, 500):  # Podman says 500 of one that has ended
                raise

    def remove(self, container: str, *, force: bool = True) -> None:
        """End, if forced, and remove a container with its volumes; nothing happens where there is none."""
        query = {"force": str(force).lower(), "v": "true"}
        try:
            self.call("DELETE", f"/containers/{quote(container)}", **query)
        except EngineError as problem:
            if problem.status not in (404, 409):  # 409: it is being removed
                raise

    def attach(self, container: str) -> Answer:
        """The container's output from its beginning, in frames (see `Frames`); attach before it starts."""
        target = f"/containers/{quote(container)}/attach"
        return self.open("POST", target, query={"stream": "1", "stdout": "1", "stderr": "1"})

    def wait(self, container: str) -> Answer:
        """An answer whose body comes when the container ends; ask before it starts."""
        return self.open(
            "POST", f"/containers/{quote(container)}/wait", query={"condition": "next-exit"}
        )

    def call(self, method: str, target: str, document: Any = None, **query: str) -> Any:
        """One call with its whole answer, decoded."""
        body = b"" if document is None else json.dumps(document).encode()
        answer = self.open(method, target, body, query=query)
        with answer.connection:
            data = read_all(answer)
        return json.loads(data) if data.strip() else None

    def open(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Ask; raise EngineError unless the answer's status is a good one."""
        connection = self.begin(method, target, len(body), query=query, headers=headers)
        try:
            if body:  # the engine may have answered and closed already
                connection.sendall(body)
            return self.answer(connection)
        except OSError as problem:
            connection.close()
            raise EngineError(0, f"the container engine at {self.path}: {problem}") from problem
        except BaseException:
            connection.close()
            raise

    def begin(
        self,
        method: str,
        target: str,
        length: int,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> socket.socket:
        """Send a request's head; the body, of this length, is the caller's to send, then `answer`."""
        full = f"{_VERSION}{target}" + (f"?{urlencode(query)}" if query else "")
        lines = [f"{method} {full} HTTP/1.0", "Host: engine", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if length and "Content-Type" not in (headers or {}):
            lines.append("Content-Type: application/json")
        try:
            connection = sockets.connect(self.path, self._seconds)
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        except OSError as problem:
            raise EngineError(0, f"the container engine at {self.path}: {problem}") from problem
        return connection

    def answer(self, connection: socket.socket) -> Answer:
        """The head of the answer to a request that was sent; raise EngineError where it is a refusal."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(16384)
            if not piece or len(data) > _HEAD_BYTES_MAX:
                raise EngineError(0, f"the container engine at {self.path} did not answer")
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        words = head.split(None, 2)
        if len(words) < 2 or not words[1].isdigit():
            raise EngineError(0, f"{self.path} does not speak HTTP")
        answer = Answer(int(words[1]), connection, rest)
        if answer.status >= 400:
            raise EngineError(answer.status, _refusal(read_all(answer)))
        return answer


def read_all(answer: Answer) -> bytes:
    """The body to its end, which is the connection's."""
    data = bytearray(answer.begun)
    while True:
        piece = answer.connection.recv(1 << 16)
        if not piece:
            return bytes(data)
        data += piece
        if len(data) > _BODY_BYTES_MAX:
            raise EngineError(0, "the container engine's answer is too long")


def _refusal(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:500]


class Frames:
    """Takes apart the stream of an attached container: eight bytes of head before each piece of output."""

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0  # of the piece that has begun

    def feed(self, data: bytes) -> bytes:
        """The output in what has come, standard output and standard error alike, in their order."""
        found = bytearray()
        data = self._rest + data
        while data:
            if self._left:
                found += data[: self._left]
                taken = min(self._left, len(data))
                self._left -= taken
                data = data[taken:]
            elif len(data) < 8:
                break
            else:
                self._left, data = int.from_bytes(data[4:8], "big"), data[8:]
        self._rest = data
        return bytes(found)
