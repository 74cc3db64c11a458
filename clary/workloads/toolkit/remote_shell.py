"""Commands on the other hosts of a job where there is no ssh: a listener on each, and what calls it.

    algo-1                                            algo-2
    toolkit ──── hold ───────────────────────────▶ toolkit: serves until the first host ends
       └ mpirun ─ this program ── run: a command ──▶   └ /bin/sh -c command
                     ◀── its output, its exit code ──

Who calls must prove to know the job's secret. A frame is one letter, a length and its bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from clary.workloads.toolkit import ports
from clary.workloads.toolkit.failures import UserError

log = logging.getLogger("clary.toolkit")

USUAL_PORT = 7778
_OWN_PORTS = 28_000
MEETING_SECONDS_MAX = 3600.0
CALL_SECONDS_MAX = 30.0
END_SECONDS_MAX = 10.0
CALLS_MAX = 64
_NONCE_BYTES = 32
_FRAME_MAX = 1 << 20
_HEADER = struct.Struct(">cI")
_RETRY_SECONDS = 0.1
# What the program that mpirun calls is told by its environment.
PORT_VARIABLE = "CLARY_REMOTE_SHELL_PORT"


class RemoteShellError(UserError):
    """The hosts of the job did not come together, or lost each other."""


def secret(environ: Mapping[str, str]) -> bytes:
    """What only the hosts of one job know; in a network of their own they are alone anyway."""
    token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    name = environ.get("TRAINING_JOB_NAME", "")
    return hashlib.sha256(f"remote shell\0{name}\0{token}".encode()).digest()


def port_of_job(master: str) -> int:
    return ports.of_job(USUAL_PORT, _OWN_PORTS, master)


# -- frames ---------------------------------------------------------------------------------------


def _send(connection: socket.socket, kind: bytes, body: bytes) -> None:
    connection.sendall(_HEADER.pack(kind, len(body)) + body)


def _receive(connection: socket.socket) -> tuple[bytes, bytes]:
    kind, length = _HEADER.unpack(_read(connection, _HEADER.size))
    if length > _FRAME_MAX:
        raise OSError(f"a frame of {length} bytes is too long")
    return kind, _read(connection, length)


def _read(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        piece = connection.recv(size - len(found))
        if not piece:
            raise EOFError("the other host closed the connection")
        found += piece
    return bytes(found)


# -- the host that is called ----------------------------------------------------------------------


def start(command: str, directory: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a command of another host's, with both streams in one."""
    return subprocess.Popen(
        ["/bin/sh", "-c", command],
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def follow(process: subprocess.Popen[bytes], pass_on: Callable[[bytes], object]) -> int:
    """Pass on what a command prints until it ends; returns its exit code."""
    assert process.stdout is not None
    with process.stdout as output:
        while True:
            piece = os.read(output.fileno(), 1 << 16)
            if not piece:
                break
            pass_on(piece)
    return process.wait()


class Listener:
    """Runs commands for the first host until it says that all is done."""

    def __init__(
        self, host: str, port: int, key: bytes, directory: Path, environment: Mapping[str, str]
    ) -> None:
        self._key, self._directory, self._environment = key, directory, dict(environment)
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._held, self._ended = threading.Event(), threading.Event()
        self._lost = ""
        self._slots = threading.BoundedSemaphore(CALLS_MAX)
        self._lock = threading.Lock()
        self._server = socket.create_server((host, port), backlog=CALLS_MAX)

    def serve(self) -> None:
        """Serve to the end; `RemoteShellError` if the first host never came, or went away."""
        threading.Thread(target=self._accept, name="remote-shell", daemon=True).start()
        try:
            if not self._held.wait(MEETING_SECONDS_MAX):
                raise RemoteShellError(
                    f"The first host of the job did not call within {MEETING_SECONDS_MAX:.0f} s."
                )
            self._ended.wait()
        finally:
            self._server.close()
            self._end_commands()
        if self._lost:
            raise RemoteShellError(f"The first host of the job went away: {self._lost}.")

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return  # closed: the work is done
            if not self._slots.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._serve_call(connection)
        except (OSError, EOFError, ValueError) as problem:
            log.info("A call from another host ended early: %s", problem)
        finally:
            self._slots.release()

    def _serve_call(self, connection: socket.socket) -> None:
        connection.settimeout(CALL_SECONDS_MAX)
        nonce = os.urandom(_NONCE_BYTES)
        _send(connection, b"n", nonce)
        _, proof = _receive(connection)
        if not hmac.compare_digest(proof, _proof(self._key, nonce)):
            raise OSError("the caller does not know the job's secret")
        kind, body = _receive(connection)
        connection.settimeout(None)
        if kind == b"h":
            self._hold(connection)
        elif kind == b"r":
            self._run(connection, json.loads(body)["command"])

    def _hold(self, connection: socket.socket) -> None:
        _send(connection, b"y", b"")
        self._held.set()
        try:
            _receive(connection)
        except (OSError, EOFError) as problem:
            self._lost = str(problem)
        self._ended.set()

    def _run(self, connection: socket.socket, command: str) -> None:
        process = start(command, self._directory, self._environment)
        with self._lock:
            self._running[process.pid] = process
        code = follow(process, lambda piece: _send(connection, b"o", piece))
        with self._lock:
            self._running.pop(process.pid, None)
        _send(connection, b"x", str(code).encode())

    def _end_commands(self) -> None:
        """What mpirun has left behind goes with it: politely first."""
        with self._lock:
            left = list(self._running.values())
        deadline = time.monotonic() + END_SECONDS_MAX
        for process in left:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0))
                continue
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def serve(host: str, port: int, directory: Path, environment: Mapping[str, str]) -> None:
    """Be a host whose processes the first one starts; a signal to stop reaches them from there."""

    def leave_it_to_the_first(number: int, frame: FrameType | None) -> None:
        log.info("Asked to stop: the first host ends the processes of this one.")

    previous = signal.signal(signal.SIGTERM, leave_it_to_the_first)
    try:
        Listener(host, port, secret(environment), directory, environment).serve()
    finally:
        signal.signal(signal.SIGTERM, previous)


# -- the host that calls --------------------------------------------------------------------------


def hold(host: str, port: int, key: bytes) -> socket.socket:
    """Wait for a host to listen; it serves until the connection is given to `let_go`."""
    deadline = time.monotonic() + MEETING_SECONDS_MAX
    while True:
        try:
            connection = _call(host, port, key)
            break
        except (OSError, EOFError) as problem:
            if time.monotonic() > deadline:
                raise RemoteShellError(f"The host {host} did not answer: {problem}.") from problem
            time.sleep(_RETRY_SECONDS)
    try:
        _send(connection, b"h", b"")
        _receive(connection)
    except (OSError, EOFError) as problem:
        connection.close()
        raise RemoteShellError(f"The host {host} refused the call: {problem}.") from problem
    connection.settimeout(None)
    return connection


def let_go(connection: socket.socket) -> None:
    """Tell a held host that all is done."""
    with connection, contextlib.suppress(OSError):
        _send(connection, b"e", b"")


def _call(host: str, port: int, key: bytes) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=CALL_SECONDS_MAX)
    try:
        _, nonce = _receive(connection)
        _send(connection, b"p", _proof(key, nonce))
    except BaseException:
        connection.close()
        raise
    return connection


def _proof(key: bytes, nonce: bytes) -> bytes:
    return hmac.new(key, nonce, hashlib.sha256).digest()


def run(host: str, port: int, key: bytes, command: str) -> int:
    """Run a command on a host, pass its output on, and return its exit code."""
    with _call(host, port, key) as connection:
        _send(connection, b"r", json.dumps({"command": command}).encode())
        connection.settimeout(None)
        while True:
            kind, body = _receive(connection)
            if kind == b"x":
                return shell_code(int(body))
            sys.stdout.buffer.write(body)
            sys.stdout.buffer.flush()


def shell_code(code: int) -> int:
    """An exit code as a shell tells it, which a signal has too."""
    return code if code >= 0 else 128 - code


def main(words: list[str]) -> int:
    """`remote_shell [-option ...] HOST COMMAND ...`, as mpirun calls its ssh."""
    while words and words[0].startswith("-"):
        words = words[1:]
    if len(words) < 2:
        print("usage: remote_shell HOST COMMAND ...", file=sys.stderr)
        return 2
    host, command = words[0], " ".join(words[1:])
    try:
        return run(host, int(os.environ[PORT_VARIABLE]), secret(os.environ), command)
    except (OSError, EOFError) as problem:
        print(f"The host {host} did not run the command: {problem}", file=sys.stderr)
        return 255


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
