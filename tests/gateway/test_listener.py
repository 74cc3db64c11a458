"""The listener speaks HTTP/1.1 as it is written: kept connections, pipelines, half-closed and rude clients."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from clary.gateway import listener as module
from clary.gateway.listener import Listener
from clary.wire.http import Request, Response

BODY_BYTES_MAX = 1_000


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="clary-") as folder:
        yield Path(folder) / "run" / "c.sock"


@pytest.fixture
def served(path: Path) -> Iterator[list[Request]]:
    """The requests that were handled; each is answered with its own path and body."""
    seen: list[Request] = []

    def echo(request: Request) -> Response:
        seen.append(request)
        return Response(200, {"X-Path": request.path}, request.body)

    listener = Listener(path, echo, BODY_BYTES_MAX)
    listener.start()
    yield seen
    listener.close()


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(path))
    return client


def post(target: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"POST {target} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def read_until(client: socket.socket, end: bytes) -> bytes:
    found = b""
    while not found.endswith(end):
        data = client.recv(65_536)
        assert data, found
        found += data
    return found


def read_all(client: socket.socket) -> bytes:
    found = b""
    while data := client.recv(65_536):
        found += data
    return found


def test_a_connection_serves_many_requests(path: Path, served: list[Request]) -> None:
    with closing(connect(path)) as client:
        for number in range(3):
            client.sendall(post(f"/{number}?a=b", b"body", "X-Twice: 1", "x-twice: 2"))
            answer = read_until(client, b"\r\n\r\nbody")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert f"X-Path: /{number}\r\n".encode() in answer and b"Connection" not in answer
    assert (served[0].method, served[0].query) == ("POST", "a=b")
    assert served[0].headers["x-twice"] == "1,2"
    assert served[0].peer == "127.0.0.1"


def test_the_door_tells_who_is_behind_it(path: Path, served: list[Request]) -> None:
    with closing(connect(path)) as client:
        client.sendall(post("/", b"x", "X-Clary-Peer: 10.1.2.3"))
        read_until(client, b"\r\n\r\nx")
    assert served[0].peer == "10.1.2.3" and "x-clary-peer" not in served[0].headers


def test_pipelined_requests_are_answered_in_order(path: Path, served: list[Request]) -> None:
    with closing(connect(path)) as client:
        client.sendall(post("/1", b"one") + post("/2", b"two", "Connection: close") + post("/3"))
        answer = read_all(client)
    first, second = answer.split(b"HTTP/1.1 ")[1:]
    assert first.endswith(b"\r\n\r\none") and b"Connection: close" not in first
    assert second.endswith(b"\r\n\r\ntwo") and b"Connection: close" in second
    assert [one.path for one in served] == ["/1", "/2"]


def test_a_request_may_come_in_crumbs(path: Path, served: list[Request]) -> None:
    with closing(connect(path)) as client:
        for byte in post("/slow", b"ab"):
            client.sendall(bytes([byte]))
        assert read_until(client, b"\r\n\r\nab")
    assert len(served) == 1


def test_a_chunked_body_is_joined(path: Path, served: list[Request]) -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    with closing(connect(path)) as client:
        client.sendall(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert read_until(client, b"\r\n\r\nabcde")
    assert served[0].body == b"abcde"


def test_a_client_that_has_closed_its_half_gets_its_answer(
    path: Path, served: list[Request]
) -> None:
    with closing(connect(path)) as client:
        client.sendall(post("/half", b"x"))
        client.shutdown(socket.SHUT_WR)
        assert read_all(client).endswith(b"\r\n\r\nx")


def test_a_client_that_leaves_in_the_middle_is_forgotten(path: Path, served: list[Request]) -> None:
    with closing(connect(path)) as client:
        client.sendall(post("/cut", b"x" * 100)[:-50])
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
    assert served == []


def test_a_client_who_asks_first_is_told_to_go_on(path: Path, served: list[Request]) -> None:
    request = post("/", b"body", "Expect: 100-continue")
    with closing(connect(path)) as client:
        client.sendall(request[:-4])
        assert read_until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"body")
        assert read_until(client, b"\r\n\r\nbody")


def test_a_body_that_is_announced_too_large_is_refused_unread(
    path: Path, served: list[Request]
) -> None:
    head = post("/", b"", "Expect: 100-continue").replace(b"Length: 0", b"Length: 1001")
    with closing(connect(path)) as client:
        client.sendall(head)
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 413 Request Entity Too Large\r\n")
    assert b"Connection: close" in answer and served == []


@pytest.mark.parametrize("size", [BODY_BYTES_MAX, BODY_BYTES_MAX + 1])
def test_a_body_may_be_as_large_as_the_setting_says(
    size: int, path: Path, served: list[Request]
) -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
    with closing(connect(path)) as client:
        client.sendall(head + b"Connection: close\r\n\r\n")
        client.sendall(f"{size:x}\r\n".encode() + b"x" * size + b"\r\n0\r\n\r\n")
        status = read_all(client).split(b" ")[1]
    assert status == (b"200" if size == BODY_BYTES_MAX else b"413")
    assert len(served) == (size == BODY_BYTES_MAX)


@pytest.mark.parametrize("rude", [b"\x16\x03\x01\x02\x00", b"HELO there\r\n\r\n", b"\r\n\r\nGET"])
def test_what_is_not_http_ends_the_connection(
    rude: bytes, path: Path, served: list[Request]
) -> None:
    with closing(connect(path)) as client:
        client.sendall(rude)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client).split(b" ")[1:2] in ([b"400"], [])
    with closing(connect(path)) as client:
        client.sendall(post("/after", b"fine"))
        assert read_until(client, b"\r\n\r\nfine")


def test_the_socket_is_its_owners_alone(path: Path, served: list[Request]) -> None:
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("patience_seconds", [0.0, 0.005])
def test_requests_that_wait_hold_up_no_others(path: Path, patience_seconds: float) -> None:
    go_on = threading.Event()

    def handle(request: Request) -> Response:
        assert request.path == "/quick" or go_on.wait(10)
        return Response(200, {}, request.path.encode())

    listener = Listener(path, handle, BODY_BYTES_MAX, patience_seconds=patience_seconds)
    listener.start()
    slow = [connect(path) for _ in range(6)]
    for client in slow:
        client.sendall(post("/slow"))
    with closing(connect(path)) as quick:
        for _ in range(3):
            quick.sendall(post("/quick"))
            assert read_until(quick, b"\r\n\r\n/quick")
    go_on.set()
    for client in slow:
        assert read_until(client, b"\r\n\r\n/slow")
        client.close()
    listener.close()


def test_a_handler_that_fails_ends_its_connection_alone(path: Path) -> None:
    def handle(request: Request) -> Response:
        if request.path == "/bad":
            raise ValueError("a defect")
        return Response(200, {}, b"fine")

    listener = Listener(path, handle, BODY_BYTES_MAX)
    listener.start()
    with closing(connect(path)) as bad, closing(connect(path)) as good:
        bad.sendall(post("/bad"))
        assert read_all(bad) == b""
        good.sendall(post("/good"))
        assert read_until(good, b"\r\n\r\nfine")
    listener.close()


def test_closing_finishes_the_request_in_flight(path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(request: Request) -> Response:
        if request.path == "/quick":
            return Response(200, {}, b"quick")
        begun.set()
        assert go_on.wait(10)
        return Response(200, {}, b"done")

    listener = Listener(path, slow, BODY_BYTES_MAX)
    listener.start()
    with closing(connect(path)) as client, closing(connect(path)) as idle:
        idle.sendall(post("/quick"))
        read_until(idle, b"\r\n\r\nquick")
        client.sendall(post("/"))
        assert begun.wait(10)
        listener.close()
        go_on.set()
        assert read_all(client).endswith(b"\r\n\r\ndone")
        assert read_all(idle) == b""
    assert not path.exists()
    with closing(socket.socket(socket.AF_UNIX)) as late, pytest.raises(FileNotFoundError):
        late.connect(str(path))


def test_connections_beyond_the_bound_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTIONS_MAX", 1)
    listener = Listener(path, lambda request: Response(200, {}, b"ok"), BODY_BYTES_MAX)
    listener.start()
    with closing(connect(path)) as first, closing(connect(path)) as second:
        first.sendall(post("/"))
        read_until(first, b"\r\n\r\nok")
        second.sendall(post("/"))
        second.settimeout(0.2)
        with pytest.raises(TimeoutError):
            second.recv(1)
        first.close()
        second.settimeout(10)
        assert read_until(second, b"\r\n\r\nok")
    listener.close()
