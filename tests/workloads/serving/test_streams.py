"""Streamed answers: piece by piece, at the client's pace, broken off where they break."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import DEADLINE, Server, parse, read_all

SCRIPT = """
import os, time
import numpy

STEP = os.path.join(os.path.dirname(__file__), "step")

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return body

def predict_fn(data, model):
    if data == b"plain":
        return data
    return words(data)

def words(data):
    try:
        if data == b"early":
            raise ValueError("before the first piece")
        if data == b"nothing":
            return
        yield "one "
        if data == b"wait":
            while not os.path.exists(STEP):
                time.sleep(0.005)
        if data == b"late":
            raise ValueError("in the middle")
        if data == b"object":
            yield object()
        if data == b"stuck":
            time.sleep(60)
        yield b""
        yield b"two"
        if data == b"flood":
            for at in range(4000):
                yield b"x" * 65536
    finally:
        with open(STEP + ".closed", "a") as out:
            out.write("%s\\n" % data)
"""


@pytest.fixture
def streaming(start: Callable[..., Server], tmp_path: Path) -> Callable[..., Server]:
    """A function that starts a server whose script streams."""
    code = tmp_path / "model" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(SCRIPT)

    def begin(**environ: str) -> Server:
        return start(
            None,
            CLARY_SERVING_FRAMEWORK="sklearn",
            SAGEMAKER_PROGRAM="inference.py",
            PYTHONWARNINGS="",
            **environ,
        )

    return begin


def post(body: bytes, more: str = "", version: str = "1.1") -> bytes:
    head = f"POST /invocations HTTP/{version}\r\nHost: x\r\nContent-Type: a/b\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def closed(server: Server) -> list[str]:
    """What the generators' `finally` has noted."""
    path = server.log.parent / "model" / "code" / "step.closed"
    return path.read_text().split() if path.exists() else []


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_pieces_are_chunks_and_the_connection_lives_on(streaming) -> None:
    server = streaming()
    with server.connect() as client:
        client.sendall(post(b"go") + post(b"go") + post(b"plain", "Connection: close\r\n"))
        answer = read_all(client)
    chunks = b"4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"
    assert answer.count(chunks) == 2
    assert answer.count(b"Transfer-Encoding: chunked") == 2
    assert answer.index(b"500 ") > answer.rindex(chunks)  # plain bytes are no array: an error


def test_a_piece_is_sent_when_it_is_made(streaming, tmp_path: Path) -> None:
    server = streaming()
    with server.connect() as client:
        client.sendall(post(b"wait", "Connection: close\r\n"))
        data = b""
        while b"one " not in data:
            data += client.recv(4096)
        assert b"two" not in data
        (tmp_path / "model" / "code" / "step").touch()
        assert read_all(client).endswith(b"3\r\ntwo\r\n0\r\n\r\n")


def test_an_old_client_gets_the_pieces_without_chunks(streaming) -> None:
    server = streaming()
    answer = server.send(post(b"go", version="1.0"))
    assert answer.endswith(b"\r\n\r\none two") and b"chunked" not in answer


def test_an_error_before_the_first_piece_is_a_plain_500(streaming) -> None:
    server = streaming()
    assert server.ask(b"early", "a/b") == (500, "text/plain", b"ValueError: before the first piece")
    status, _, body = server.ask(b"nothing", "a/b")
    assert (status, body) == (200, b"0\r\n\r\n")


@pytest.mark.parametrize("body", [b"late", b"object"])
def test_an_error_in_the_middle_breaks_the_connection_off(streaming, body: bytes) -> None:
    server = streaming()
    with server.connect() as client:
        client.sendall(post(body))
        try:
            answer = read_all(client)
        except ConnectionResetError:
            answer = b""
    assert not answer.endswith(b"0\r\n\r\n")
    wait_for(lambda: closed(server) == [repr(body)])
    assert server.ask(b"go", "a/b")[0] == 200


def test_a_client_that_reads_nothing_holds_the_model_back_and_leaving_frees_it(streaming) -> None:
    server = streaming()
    with server.connect() as client:
        client.sendall(post(b"flood"))
        assert client.recv(10)
        # Others are served meanwhile: between two pieces the model's thread is free.
        assert server.ask(b"go", "a/b")[0] == 200
        assert closed(server) == ["b'go'"]
        memory = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
        assert int(memory) * 4096 < 400 << 20
    wait_for(lambda: closed(server) == ["b'go'", "b'flood'"])


def test_a_stream_that_stops_coming_is_cut_and_its_process_replaced(streaming) -> None:
    server = streaming(SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS="1")
    with server.connect() as client:
        client.sendall(post(b"stuck"))
        try:
            answer = read_all(client)
        except ConnectionResetError:
            answer = b""
    assert not answer.endswith(b"0\r\n\r\n")
    # What still comes to the old process is told to try again.
    wait_for(lambda: answered(server) == 200)


def answered(server: Server) -> int:
    status = parse(server.send(post(b"go", "Connection: close\r\n")))[0]
    assert status in (200, 503)
    return status
