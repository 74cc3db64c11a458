"""A real model server process for each test that asks for one, and a raw client."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DEADLINE = 60.0

HANDLERS = """
import os, sys, time

class Echo:
    def __init__(self, model_dir):
        self.model_dir = model_dir

    def ping(self):
        return True

    def invoke(self, body, content_type, accept, headers):
        if body == b"raise":
            raise ValueError("bad row")
        if body == b"exit":
            sys.exit(3)
        if body in (b"sleep", b"hang"):
            open(os.path.join(self.model_dir, "entered"), "w").close()
        if body == b"sleep":
            time.sleep(0.5)
        if body == b"pid":
            body = str(os.getpid()).encode()
        if body == b"headers":
            body = ("%s|%s|%s" % (content_type, accept, headers.get("x-who"))).encode()
        return 200, "text/plain", body

    def execution_parameters(self):
        return {"BatchStrategy": "MULTI_RECORD"}

class Hanging(Echo):
    def invoke(self, body, content_type, accept, headers):
        if body == b"hang":
            super().invoke(body, content_type, accept, headers)
            time.sleep(60)
        if body == b"block":
            import ctypes
            ctypes.PyDLL(None).sleep(60)
        if body == b"start":
            import subprocess
            body = str(subprocess.Popen(["sleep", "600"]).pid).encode()
        if body == b"crash":
            os.kill(os.getpid(), 11)
        if body == b"fork":
            os.fork()
        if body == b"child" and os.fork() == 0:
            time.sleep(3)
            os._exit(0)
        if body == b"print":
            sys.stdout.buffer.write(bytes(range(256)))
            print(b"\\xff")
        return super().invoke(body, content_type, accept, headers)

class Slow(Echo):
    def __init__(self, model_dir):
        while not os.path.exists(os.path.join(model_dir, "ready")):
            time.sleep(0.01)

class Broken:
    def load(self, model_dir):
        raise RuntimeError("no model in " + model_dir)

broken = Broken()
"""


@dataclass
class Server:
    """A running server and where it listens."""

    process: subprocess.Popen[bytes]
    path: str
    log: Path

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(DEADLINE)
        try:
            client.connect(self.path)
        except OSError:
            client.close()
            raise
        return client

    def send(self, data: bytes) -> bytes:
        """Send bytes, read until the server closes."""
        with self.connect() as client:
            client.sendall(data)
            return read_all(client)

    def ask(
        self, body: bytes, kind: str = "text/csv", accept: str = "*/*", more: str = ""
    ) -> tuple[int, str, bytes]:
        """Invoke once; return status, content type and body."""
        head = (
            f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nAccept: {accept}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
        )
        return parse(self.send(head.encode() + body))

    def status(self, path: str, method: str = "GET") -> int:
        request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        return parse(self.send(request.encode()))[0]

    def wait_until_entered(self) -> None:
        """Wait until the model is at a request that takes its time."""
        end = time.monotonic() + DEADLINE
        while not (self.log.parent / "model" / "entered").exists():
            assert time.monotonic() < end
            time.sleep(0.005)

    def wait(self, status: int) -> None:
        """Wait until /ping answers with a status."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if self.status("/ping") == status:
                    return
            except OSError:
                # It does not listen yet.
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(f"no {status} from /ping: {self.log.read_text()}")


def read_all(client: socket.socket) -> bytes:
    data = b""
    while piece := client.recv(1 << 16):
        data += piece
    return data


def parse(data: bytes) -> tuple[int, str, bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    kinds = [line.partition(": ")[2] for line in lines if line.startswith("Content-Type")]
    return int(lines[0].split()[1]), kinds[0] if kinds else "", body


def starting(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Yield a function that starts a server with some environment; end all of them."""
    (tmp_path / "model").mkdir()
    (tmp_path / "handlers_for_tests.py").write_text(HANDLERS)
    servers: list[Server] = []

    def begin(
        handler: str | None = "Echo",
        *,
        ready: bool = True,
        python: str = sys.executable,
        **environ: str,
    ) -> Server:
        path = str(tmp_path / f"serve{len(servers)}.sock")
        log = tmp_path / f"log{len(servers)}"
        settings = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{tmp_path}",
            "SAGEMAKER_BASE_DIR": str(tmp_path),
            "CLARY_SERVE_SOCKET": path,
            "PYTHONWARNINGS": "error",
            **environ,
        }
        if handler:
            settings["CLARY_SERVING_HANDLER"] = f"handlers_for_tests:{handler}"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [python, "-m", "clary.workloads.serving.server"],
                env=settings,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=tmp_path,
            )
        server = Server(process, path, log)
        servers.append(server)
        if ready:
            server.wait(200)
        return server

    yield begin
    for server in servers:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
        server.process.wait(DEADLINE)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """A function that starts a server with some environment."""
    yield from starting(tmp_path)


@pytest.fixture(scope="module")
def echo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One echo server for tests that leave it as it was."""
    servers = starting(tmp_path_factory.mktemp("echo"))
    yield next(servers)()
    next(servers, None)
