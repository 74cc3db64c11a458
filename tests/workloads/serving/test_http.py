"""HTTP on the wire: order, framing, and clients that mean no good."""

from __future__ import annotations

import time

import pytest

from clary.workloads.serving.chunks import Chunks
from clary.workloads.serving.heads import BadRequest, Heads, parse_head

from .conftest import parse, read_all

POST = b"POST /invocations HTTP/1.1\r\nHost: x\r\n"


def test_pipelined_requests_are_answered_in_their_order(start) -> None:
    server = start()
    requests = b"".join(
        POST + b"Content-Length: 3\r\n\r\n%03d" % n if n % 3 else b"GET /ping HTTP/1.1\r\n\r\n"
        for n in range(300)
    )
    answer = server.send(requests + b"GET /none HTTP/1.1\r\nConnection: close\r\n\r\n")
    bodies = answer.split(b"HTTP/1.1 ")[1:]
    assert len(bodies) == 301
    expected = [b"%03d" % n if n % 3 else b"" for n in range(300)]
    assert [body.partition(b"\r\n\r\n")[2] for body in bodies[:-1]] == expected
    assert bodies[-1].startswith(b"404 ")
    assert [b"Connection: close" in body for body in bodies] == [False] * 300 + [True]


def test_a_chunked_body_is_joined(start) -> None:
    server = start()
    chunks = b"5\r\nhello\r\n6;name=x\r\n world\r\n0\r\nTrailer: y\r\n\r\n"
    head = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert parse(server.send(head + chunks)) == (200, "text/plain", b"hello world")


def test_a_client_that_waits_for_100_is_told_to_continue(start) -> None:
    server = start()
    with server.connect() as client:
        client.sendall(
            POST + b"Content-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"ok")
        assert parse(read_all(client))[2] == b"ok"


def test_a_client_that_sends_byte_by_byte_is_served(start) -> None:
    server = start()
    with server.connect() as client:
        for octet in POST + b"Content-Length: 3\r\nConnection: close\r\n\r\nabc":
            client.send(bytes([octet]))
        assert parse(read_all(client)) == (200, "text/plain", b"abc")


def test_a_half_closed_client_still_gets_its_answer(start) -> None:
    server = start()
    with server.connect() as client:
        client.sendall(POST + b"Content-Length: 5\r\n\r\nsleep")
        client.shutdown(1)
        assert parse(read_all(client)) == (200, "text/plain", b"sleep")


def test_a_client_that_leaves_does_no_harm(start) -> None:
    server = start()
    for request in (
        POST + b"Content-Length: 5\r\n\r\nsleep",
        POST + b"Content-Length: 900\r\n\r\nx",
    ):
        with server.connect() as client:
            client.sendall(request)
    assert server.ask(b"fine") == (200, "text/plain", b"fine")


def test_a_body_beyond_the_limit_is_refused_although_the_client_goes_on_sending(start) -> None:
    server = start(SAGEMAKER_MAX_REQUEST_SIZE="1000")
    assert server.ask(b"x" * 1000)[0] == 200
    assert server.ask(b"x" * 3_000_000)[0] == 413
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert parse(server.send(head + b"3e9\r\n" + b"x" * 1001 + b"\r\n"))[0] == 413


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /ping HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /ping HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"nonsense\r\n\r\n", 400),
        (b"GET  /ping HTTP/1.1\r\n\r\n", 400),
        (b"GET /ping HTTP/2.0\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /p\x00ng HTTP/1.1\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nNo Colon\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nName : x\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nA: b\n c\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: +1\r\n\r\nx", 400),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (POST + b"Content-Length: 99999999999999\r\n\r\n", 413),
    ],
)
def test_malformed_requests_are_refused_and_the_connection_closed(
    echo_server,
    request_bytes: bytes,
    status: int,
) -> None:
    answer = echo_server.send(request_bytes)
    assert parse(answer)[0] == status
    assert b"Connection: close" in answer
    assert answer.count(b"Content-Length: ") == 1


def test_a_slow_head_does_not_hold_up_others(echo_server) -> None:
    with echo_server.connect() as slow:
        slow.sendall(b"POST /invo")
        started = time.monotonic()
        assert echo_server.ask(b"quick")[0] == 200
        assert time.monotonic() - started < 5


def test_heads_are_remembered_within_a_bound() -> None:
    heads = Heads()
    raw = b"GET /ping HTTP/1.1\r\nHost: x"
    assert heads.parse(raw) is heads.parse(raw)
    for number in range(9000):
        heads.parse(b"GET /%d HTTP/1.1" % number)
    assert len(heads._known) <= 4096


def test_repeated_headers_are_joined_and_keep_alive_follows_the_version() -> None:
    head = parse_head(b"GET /x?y HTTP/1.1\r\nA: 1\r\nA: 2")
    assert head.headers["a"] == "1, 2"
    assert head.path == "/x" and head.keep_alive
    assert not parse_head(b"GET / HTTP/1.0").keep_alive
    assert parse_head(b"GET / HTTP/1.0\r\nConnection: Keep-Alive").keep_alive
    assert not parse_head(b"GET / HTTP/1.1\r\nConnection: close").keep_alive


def test_chunks_may_arrive_in_any_pieces() -> None:
    wire = b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\nrest"
    for cut in range(len(wire)):
        chunks, buffer = Chunks(100), bytearray(wire[:cut])
        body = chunks.feed(buffer)
        if body is None:
            buffer += wire[cut:]
            body = chunks.feed(buffer)
            assert bytes(buffer) == b"rest"
        assert body == b"abc0123456789abcdef"
    with pytest.raises(BadRequest):
        Chunks(2).feed(bytearray(b"3\r\nabc\r\n"))
