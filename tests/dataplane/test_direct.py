"""Invocations answered without the HTTP framework: byte by byte, in order, and nothing but plain ones."""

from __future__ import annotations

import json
import socket
from unittest.mock import Mock

import pytest

from clary.dataplane.direct import DirectInvocations
from clary.dataplane.shortcuts import Shortcuts
from clary.model.errors import AccessDeniedException
from clary.wire.request_heads import RequestHeads

ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/iris"
SIGNED = (
    "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/sagemaker/aws4_request, "
    "SignedHeaders=host, Signature=0"
)


def request(body=b"1,2", path="/endpoints/iris/invocations", **headers):
    given = {"Host": "x", "Authorization": SIGNED, "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value is not None)
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


@pytest.fixture
def endpoint(home, serve_unix, set_routes):
    """`iris`, answered by an echo with a length in front."""

    def answer(seen):
        return 200, {"content-type": seen.header("content-type") or "text/plain"}, (
            b"%d:" % len(seen.body) + seen.body
        )  # fmt: skip

    server = serve_unix(home / "model.sock", answer)
    variant = {
        "name": "main", "weight": 1, "instances": [{"id": "i", "socket": str(home / "model.sock")}],
    }  # fmt: skip
    set_routes(
        {
            "us-east-1/iris": {
                "arn": ARN,
                "account": "1",
                "status": "InService",
                "variants": [variant],
            }
        }
    )
    return server


@pytest.fixture
def connect(door):
    sockets = []

    def open_one():
        sockets.append(socket.create_connection(("127.0.0.1", door.port), timeout=10))
        return sockets[-1]

    yield open_one
    for one in sockets:
        one.close()


def read_answer(connection, kept=None):
    """(status, headers, body) of one answer; what follows it stays in `kept`."""
    data = kept if kept is not None else bytearray()
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        assert piece, "the connection closed before the answer"
        data += piece
    head, _, _ = bytes(data).partition(b"\r\n\r\n")
    del data[: len(head) + 4]
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    length = int(headers["content-length"])
    while len(data) < length:
        data += connection.recv(65536)
    body = bytes(data[:length])
    del data[:length]
    return int(lines[0].split()[1]), headers, body


def test_one_connection_carries_many_invocations(connect, endpoint):
    connection = connect()
    for number in range(5):
        connection.sendall(request(b"%d" % number, **{"Content-Type": "text/csv"}))
        status, headers, body = read_answer(connection)
        assert (status, body) == (200, b"1:%d" % number)
        assert headers["content-type"] == "text/csv"
        assert headers["x-amzn-invoked-production-variant"] == "main"
        assert len(headers["x-amzn-requestid"]) == 36
    assert len(endpoint.seen) == 5


def test_a_request_in_single_bytes_is_answered_like_any_other(connect, endpoint):
    connection = connect()
    for byte in request(b"abc"):
        connection.send(bytes([byte]))
    assert read_answer(connection)[2] == b"3:abc"


def test_a_body_that_comes_later_is_waited_for(connect, endpoint):
    connection = connect()
    whole = request(b"x" * 1000)
    connection.sendall(whole[:-400])
    connection.sendall(whole[-400:-1])
    connection.sendall(whole[-1:])
    assert read_answer(connection)[2] == b"1000:" + b"x" * 1000


def test_pipelined_requests_are_answered_in_their_order(connect, endpoint):
    connection, kept = connect(), bytearray()
    bodies = [b"%03d" % number for number in range(60)]
    requests = [request(body) for body in bodies]
    # Among them others, which the framework answers.
    requests.insert(30, b"GET /_clary/nothing HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.sendall(b"".join(requests))
    answers = [read_answer(connection, kept) for _ in requests]
    assert answers.pop(30)[0] == 404
    assert [body for _, _, body in answers] == [b"3:" + body for body in bodies]


def test_a_client_that_says_close_is_answered_and_left(connect, endpoint):
    connection = connect()
    connection.sendall(request(Connection="close"))
    status, headers, _ = read_answer(connection)
    assert (status, headers["connection"]) == (200, "close")
    assert connection.recv(1) == b""


def test_errors_are_worded_as_everywhere(connect, door, endpoint):
    connection = connect()
    connection.sendall(request(path="/endpoints/nope/invocations"))
    status, headers, body = read_answer(connection)
    assert (status, headers["x-amzn-errortype"]) == (400, "validationerror")
    assert json.loads(body)["message"] == "Endpoint nope of account 123456789012 not found."
    door.gate.refusal = AccessDeniedException("no", status=403)
    connection.sendall(request())
    assert read_answer(connection)[0] == 403


def test_large_and_chunked_bodies_take_the_other_way_on_the_same_connection(connect, endpoint):
    connection = connect()
    connection.sendall(request(b"a"))
    assert read_answer(connection)[2] == b"1:a"
    connection.sendall(request(b"b" * 200_000))
    assert read_answer(connection)[2] == b"200000:" + b"b" * 200_000
    head = request(b"", **{"Content-Length": None, "Transfer-Encoding": "chunked"})
    connection.sendall(head + b"3\r\nxyz\r\n0\r\n\r\n")
    assert read_answer(connection)[2] == b"3:xyz"
    connection.sendall(request(b"c"))
    assert read_answer(connection)[2] == b"1:c"


def test_a_client_that_leaves_while_it_is_served_harms_nobody(connect, endpoint):
    for _ in range(5):
        connection = connect()
        connection.sendall(request())
        connection.close()
    connection = connect()
    connection.sendall(request(b"still"))
    assert read_answer(connection)[2] == b"5:still"


PLAIN = request(b"1,2").decode("latin-1")


@pytest.mark.parametrize(
    "changed",
    [
        PLAIN.replace("POST", "PUT", 1),
        PLAIN.replace("/invocations", "/async-invocations", 1),
        PLAIN.replace("/invocations", "/invocations?a=b", 1),
        PLAIN.replace("iris", "ir%69s", 1),
        PLAIN.replace("HTTP/1.1", "HTTP/1.0", 1),
        PLAIN.replace("Host: x", "Host: x\n", 1),
        PLAIN.replace("Host: x", "Host: x\nEvil: y", 1),
        PLAIN.replace("Host: x", "Host: x\rEvil: y", 1),
        PLAIN.replace("Host: x", "Host: x\0", 1),
        PLAIN.replace("Host: x", "Host : x", 1),
        PLAIN.replace("Host: x", "Host: x\r\n folded", 1),
        PLAIN.replace("Host: x", "Host", 1),
        PLAIN.replace("Host: x", "Host: x\r\nhost: y", 1),
        PLAIN.replace("Host: x", "Host: x\r\nContent-Length: 3", 1),
        PLAIN.replace("Content-Length: 3", "Content-Length: +3", 1),
        PLAIN.replace("Content-Length: 3", "Content-Length: 3, 3", 1),
        PLAIN.replace("Content-Length: 3", "Content-Length: 9999999", 1),
        PLAIN.replace("Content-Length: 3\r\n", "", 1),
        PLAIN.replace("Host: x", "Host: x\r\nTransfer-Encoding: chunked", 1),
        PLAIN.replace("Host: x", "Host: x\r\nExpect: 100-continue", 1),
        PLAIN.replace("Host: x", "Host: x\r\nUpgrade: h2c", 1),
        PLAIN.replace("sagemaker/aws4", "s3/aws4", 1),
        PLAIN.replace("Authorization", "Authorisation", 1),
        "\r\n" + PLAIN,
        "POST /endpoints/x",
    ],
)
def test_what_is_not_plainly_a_small_invocation_is_left_to_the_framework(changed):
    direct = DirectInvocations(None)  # type: ignore[arg-type]
    parser = Shortcuts(invocations=direct.answer, control=lambda *_: False)
    assert parser.parse(PLAIN.encode("latin-1")) is not None
    data = changed.encode("latin-1")
    call = parser.parse(data)
    assert call is None or not call.answer(call, data, "127.0.0.1", Mock())


def test_what_was_remembered_of_one_client_is_not_taken_for_another():
    parser = RequestHeads()
    first = parser.parse(request(b"1", **{"Content-Type": "text/csv"}))
    second = parser.parse(request(b"22", **{"Content-Type": "application/json"}))
    third = parser.parse(request(b"1", path="/endpoints/other/invocations"))
    assert first is not None and second is not None and third is not None
    assert (first.headers["content-type"], first.headers["content-length"]) == ("text/csv", "1")
    assert second.headers["content-type"] == "application/json"
    assert third.path == "/endpoints/other/invocations"
    assert third.headers.get("content-type") is None
    assert first.size - first.body_at == 1
