import hashlib
import os
import socket
import time
from pathlib import Path

import pytest

from clary.store.objects import Objects
from tests.dataplane.objects.asking import signed
from tests.dataplane.objects.conftest import Door, start_door


def _begin_put(door: Door, body: bytes, sent: int) -> socket.socket:
    """A signed PUT of which only the first bytes are sent."""
    headers = signed(door, "PUT", "/bkt/k", body)
    head = f"PUT /bkt/k HTTP/1.1\r\nHost: 127.0.0.1:{door.port}\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    connection = socket.create_connection(("127.0.0.1", door.port), timeout=20)
    connection.sendall(head.encode() + body[:sent])
    return connection


def _wait_for(what: object, deadline: float = 10) -> None:
    end = time.monotonic() + deadline
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_a_server_killed_in_the_middle_of_a_put_keeps_the_old_object(tmp_path: Path) -> None:
    door = start_door(tmp_path / "home")
    temporary = tmp_path / "home" / "objects" / ".clary" / "tmp"
    try:
        s3 = door.client()
        s3.create_bucket(Bucket="bkt")
        s3.put_object(Bucket="bkt", Key="k", Body=b"old", ContentType="text/old")
        with _begin_put(door, os.urandom(8_000_000), 5_000_000):
            _wait_for(lambda: any(path.stat().st_size > 1_000_000 for path in temporary.iterdir()))
            door.kill()
    finally:
        door.kill()
    assert len(list(temporary.iterdir())) == 1
    objects = Objects(tmp_path / "home" / "objects")
    assert list(temporary.iterdir()) == []
    info = objects.head("bkt", "k")
    assert info and (objects.read("bkt", "k"), info.content_type) == (b"old", "text/old")


def test_a_server_killed_among_many_puts_leaves_whole_objects(tmp_path: Path) -> None:
    door = start_door(tmp_path / "home")
    bodies = {
        hashlib.md5(body).hexdigest(): body for body in (bytes([i]) * 50_000 for i in range(8))
    }
    try:
        s3 = door.client()
        s3.create_bucket(Bucket="bkt")
        open_ones = []
        for turn, body in enumerate(list(bodies.values()) * 3):
            open_ones.append(_begin_put(door, body, 50_000))
            if turn == 16:
                door.kill()
                break
        for connection in open_ones:
            connection.close()
    finally:
        door.kill()
    objects = Objects(tmp_path / "home" / "objects")
    info = objects.head("bkt", "k")
    if info is not None:
        assert objects.read("bkt", "k") == bodies[info.etag]
        assert info.metadata.etag == info.etag


def test_a_client_that_hangs_up_leaves_nothing(door: Door, tmp_path: Path) -> None:
    s3 = door.client()
    s3.create_bucket(Bucket="bkt")
    temporary = door.home / "objects" / ".clary" / "tmp"
    connection = _begin_put(door, bytes(4_000_000), 3_000_000)
    _wait_for(lambda: any(temporary.iterdir()))
    connection.close()
    _wait_for(lambda: not any(temporary.iterdir()))
    with pytest.raises(s3.exceptions.ClientError, match="404"):
        s3.head_object(Bucket="bkt", Key="k")


def test_a_put_that_asks_first_is_told_to_continue_or_refused_at_once(door: Door) -> None:
    s3 = door.client()
    s3.create_bucket(Bucket="bkt")
    for user, expected in (
        ("admin", b"HTTP/1.1 100 Continue"),
        ("reader", b"HTTP/1.1 403 Forbidden"),
    ):
        body = b"x" * 10
        headers = signed(door, "PUT", "/bkt/asked", body, user)
        head = f"PUT /bkt/asked HTTP/1.1\r\nHost: 127.0.0.1:{door.port}\r\n"
        head += "Content-Length: 10\r\nExpect: 100-continue\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        with socket.create_connection(("127.0.0.1", door.port), timeout=20) as connection:
            connection.sendall(head.encode())
            assert connection.recv(len(expected)) == expected
            connection.sendall(body)
