"""What the door's tests stand in front of and beside: a control, a model server, a running door."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest
import uvloop

from clary.dataplane.process import serve_settings
from clary.identity.principals import Principal
from clary.model.errors import ApiError
from clary.settings import Settings
from clary.wire.http import Request

PRINCIPAL = Principal("123456789012", "arn:aws:iam::123456789012:user/admin", "u", "user", "admin")
SCOPE = "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=0"


@dataclass
class Seen:
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int

    def header(self, name: str) -> str | None:
        return next((value for found, value in self.headers if found.lower() == name), None)


Answerer = Callable[[Seen], tuple[int, dict[str, str], bytes]]


@dataclass
class UnixServer:
    """A real, threaded HTTP/1.1 server on a Unix socket that remembers what it was asked."""

    path: Path
    answer: Answerer
    seen: list[Seen] = field(default_factory=list)
    stopped: bool = False
    _server: Any = None
    _thread: Any = None

    def start(self) -> UnixServer:
        owner = self
        connections = iter(range(1_000_000))

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                self.number = next(connections)
                owner._server.live.add(self.request)
                super().setup()

            def finish(self) -> None:
                owner._server.live.discard(self.request)
                super().finish()

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                seen = Seen(self.command, self.path, self.headers.items(), body, self.number)
                owner.seen.append(seen)
                try:
                    status, headers, content = owner.answer(seen)
                except ConnectionAbortedError:
                    self.close_connection = True
                    return
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any

            def log_message(self, *_: Any) -> None:
                return

            def address_string(self) -> str:
                return "unix"

        class Server(ThreadingMixIn, UnixStreamServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request: Any, client_address: Any) -> None:
                return

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._server = Server(str(self.path), Handler)
        self._server.live = set()
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Die as a killed process does: the listening and every open socket close."""
        if self.stopped:
            return
        self.stopped = True
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._server.live):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.path.unlink()


def echo(seen: Seen) -> tuple[int, dict[str, str], bytes]:
    if seen.path == "/_clary/health":
        return 200, {"content-type": "application/json"}, b'{"status": "ok"}'
    if seen.path == "/_clary/metrics":
        return 200, {}, b""
    content = json.dumps(
        {"path": seen.path, "method": seen.method, "size": len(seen.body)}
    ).encode()
    return 200, {"content-type": "application/x-amz-json-1.1", "x-amzn-RequestId": "r-1"}, content


@dataclass
class Gate:
    """Admits everyone, or refuses with an error; remembers what was asked."""

    asked: list[tuple[Request, str, str]] = field(default_factory=list)
    refusal: ApiError | None = None

    def __call__(self, request: Request, *, action: str, resource: str) -> Principal:
        self.asked.append((request, action, resource))
        if self.refusal is not None:
            raise self.refusal
        return PRINCIPAL


async def objects(scope: Any, receive: Any, send: Any) -> None:
    """Stands for the object store: says which path reached it."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = b"objects " + scope["raw_path"] + b" %d" % size
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@dataclass
class RunningDoor:
    home: Path
    port: int
    gate: Gate

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def running_door(home: Path, *, gate: Gate | None = None, **options: Any) -> Iterator[RunningDoor]:
    """The real door on a free port in a thread of this process."""
    gate = gate or Gate()
    settings_options = options.pop("settings", {})
    options.setdefault("environment", {})
    settings = Settings(home=home, port=0, **settings_options)
    settings.run.mkdir(parents=True, exist_ok=True)
    ports: list[int] = []
    listening = threading.Event()
    stops: list[Callable[[], None]] = []
    failures: list[BaseException] = []

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))

        def ready(port: int) -> None:
            ports.append(port)
            listening.set()

        await serve_settings(settings, gate, objects, stop=stop, ready=ready, **options)

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        except BaseException as problem:
            failures.append(problem)
            listening.set()
            raise

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert listening.wait(20)
    assert not failures
    try:
        yield RunningDoor(home, ports[0], gate)
    finally:
        stops[0]()
        thread.join(20)
        assert not thread.is_alive()


def write_routes(home: Path, endpoints: dict[str, Any]) -> None:
    """As control does it: a temporary file, then a rename."""
    path = home / "run" / "routes.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"endpoints": endpoints}))
    temporary.replace(path)


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path: Unix socket addresses end at 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="clary-") as folder:
        yield Path(folder)


@pytest.fixture
def serve_unix() -> Iterator[Callable[..., UnixServer]]:
    """Start real HTTP servers on Unix sockets; those still alive are stopped at the end."""
    started: list[UnixServer] = []

    def start(path: Path, answer: Answerer = echo) -> UnixServer:
        server = UnixServer(path, answer).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def control(home: Path, serve_unix: Callable[..., UnixServer]) -> UnixServer:
    return serve_unix(home / "run" / "control.sock")


@pytest.fixture
def door(home: Path, control: UnixServer) -> Iterator[RunningDoor]:
    with running_door(home) as running:
        yield running


@pytest.fixture
def start_door(home: Path) -> Callable[..., contextlib.AbstractContextManager[RunningDoor]]:
    return lambda **options: running_door(home, **options)


@pytest.fixture
def set_routes(home: Path) -> Callable[[dict[str, Any]], None]:
    return lambda endpoints: write_routes(home, endpoints)


@pytest.fixture
def signed() -> Callable[[str], dict[str, str]]:
    """Headers of a request signed for a service; the stand-ins do not check the signature."""
    return lambda service: {"Authorization": SCOPE.format(service)}


@pytest.fixture
def wait_until() -> Callable[..., None]:
    def wait(condition: Callable[[], Any], seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            time.sleep(0.01)

    return wait
