"""The hop to control: exact bytes, reuse of connections, control's absence, bounded bodies."""

from __future__ import annotations

import http.client
import json
import socket
import threading

import pytest


def connect(door):
    return http.client.HTTPConnection("127.0.0.1", door.port, timeout=20)


SIGNED = (
    "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/sagemaker/aws4_request, "
    "SignedHeaders=host, Signature=0"
)


@pytest.fixture(params=["by the framework", "by the shortcut"])
def ask(request):
    """Small signed requests take the shortcut; both ways must do the same."""
    given = {"Authorization": SIGNED} if request.param == "by the shortcut" else {}

    def ask(door, method, path, body=b"", headers=None):
        return send(door, method, path, body, {**given, **(headers or {})})

    return ask


def send(door, method, path, body=b"", headers=None):
    connection = connect(door)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_path_query_body_and_header_values_reach_control_as_they_were_sent(door, control, ask):
    body = bytes(range(256))
    headers = {
        "X-Amz-Target": "SageMaker.CreateModel",
        "Authorization": "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/sagemaker/aws4_request",
        "X-Odd": "  Spaces inside  and UPPER case",
    }
    status, _, _ = ask(door, "POST", "/a%2Fb//c%20d?x=1&y=%2F&z", body, headers)
    assert status == 200
    (seen,) = control.seen
    assert (seen.method, seen.path) == ("POST", "/a%2Fb//c%20d?x=1&y=%2F&z")
    assert seen.body == body
    assert seen.header("x-amz-target") == "SageMaker.CreateModel"
    assert seen.header("x-odd") == "Spaces inside  and UPPER case"
    assert seen.header("host") == f"127.0.0.1:{door.port}"
    assert seen.header("x-clary-peer") == "127.0.0.1"


def test_a_client_cannot_claim_another_peer(door, control, ask):
    ask(door, "GET", "/", headers={"X-Clary-Peer": "10.9.8.7"})
    assert [value for name, value in control.seen[0].headers if name == "x-clary-peer"] == [
        "127.0.0.1"
    ]


def test_the_answer_of_control_comes_back_with_its_status_and_headers(
    home, serve_unix, start_door, ask
):
    def answer(seen):
        return 409, {"x-amzn-ErrorType": "Odd", "content-type": "text/plain"}, b"no\x00body"

    serve_unix(home / "run" / "control.sock", answer)
    with start_door() as door:
        status, headers, body = ask(door, "DELETE", "/thing")
    assert (status, body) == (409, b"no\x00body")
    assert headers["x-amzn-errortype"] == "Odd"
    assert headers["content-type"] == "text/plain"


def test_a_head_request_announces_a_length_and_has_no_body(door, ask):
    status, headers, body = ask(door, "HEAD", "/x")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0
    assert ask(door, "GET", "/x")[0] == 200


def test_requests_one_after_another_share_one_connection_to_control(door, control):
    connection = connect(door)
    for number in range(20):
        connection.request("POST", "/", b"x" * number)
        assert json.loads(connection.getresponse().read())["size"] == number
    connection.close()
    assert {seen.connection for seen in control.seen} == {0}


def test_a_large_body_is_forwarded_whole(door, control, ask):
    body = b"0123456789abcdef" * (256 * 1024)
    status, _, answer = ask(door, "POST", "/", body)
    assert status == 200
    assert json.loads(answer)["size"] == 4 * 1024 * 1024
    assert control.seen[0].body == body


def test_a_large_answer_is_relayed_whole(home, serve_unix, start_door, ask):
    content = b"fedcba9876543210" * (512 * 1024)
    serve_unix(home / "run" / "control.sock", lambda seen: (200, {}, content))
    with start_door() as door:
        assert ask(door, "GET", "/")[2] == content


def test_a_body_over_the_limit_is_refused_with_413(control, start_door, ask):
    with start_door(settings={"body_bytes_max": 100_000}) as door:
        status, headers, body = ask(door, "POST", "/", b"x" * 100_001)
        assert status == 413
        assert headers["x-amzn-errortype"] == "RequestEntityTooLarge"
        assert "100000 bytes" in json.loads(body)["message"]
        assert ask(door, "POST", "/", b"x" * 100_000)[0] == 200
    assert len(control.seen) == 1


def test_a_chunked_body_over_the_limit_is_refused_as_well(control, start_door):
    def pieces():
        for _ in range(200):
            yield b"x" * 1000

    with start_door(settings={"body_bytes_max": 100_000}) as door:
        connection = connect(door)
        connection.request("POST", "/", pieces(), encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 413
        answer.read()
        connection.close()
    assert control.seen == []


def test_a_chunked_body_reaches_control_with_its_length(door, control):
    connection = connect(door)
    connection.request("POST", "/", iter([b"ab", b"cde"]), encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    assert control.seen[0].body == b"abcde"
    assert control.seen[0].header("transfer-encoding") is None


def test_a_request_waits_for_control_to_come_back(home, door, control, serve_unix, ask):
    assert ask(door, "GET", "/")[0] == 200
    control.stop()
    results = []
    client = threading.Thread(target=lambda: results.append(ask(door, "GET", "/again")))
    client.start()
    again = serve_unix(home / "run" / "control.sock")
    client.join(20)
    assert results[0][0] == 200
    assert again.seen[0].path == "/again"


def test_a_request_in_flight_while_control_dies_is_answered_with_503(
    home, serve_unix, start_door, ask
):
    reached = threading.Event()
    die = threading.Event()

    def answer(seen):
        reached.set()
        die.wait(20)
        raise ConnectionAbortedError

    serve_unix(home / "run" / "control.sock", answer)
    with start_door() as door:
        results = []
        client = threading.Thread(target=lambda: results.append(ask(door, "POST", "/", b"x")))
        client.start()
        assert reached.wait(20)
        die.set()
        client.join(20)
    status, headers, body = results[0]
    assert status == 503
    assert headers["x-amzn-errortype"] == "ServiceUnavailable"
    assert "try again" in json.loads(body)["message"]


def test_a_control_that_stays_away_is_a_service_unavailable_error(start_door, ask):
    with start_door(restart_seconds=0.2) as door:
        status, headers, body = ask(
            door, "POST", "/", b"Action=X", {"Content-Type": "application/x-www-form-urlencoded"}
        )
    assert status == 503
    assert headers["content-type"] == "text/xml"
    assert b"<Code>ServiceUnavailable</Code>" in body


def test_health_tells_when_control_is_away(door, control, ask):
    status, _, body = ask(door, "GET", "/_clary/health")
    assert status == 200
    assert json.loads(body)["status"] == "ok"
    control.stop()
    status, _, body = ask(door, "GET", "/_clary/health")
    assert status == 503
    assert json.loads(body)["control"]["status"] == "away"


def test_internal_routes_of_control_are_not_reachable_from_outside(door, control, ask):
    assert ask(door, "POST", "/_clary/metrics", b"[]")[0] == 404
    assert ask(door, "GET", "/_clary/credentials")[0] == 200
    assert [seen.path for seen in control.seen] == ["/_clary/credentials"]


@pytest.mark.parametrize(
    ("headers", "path", "reached"),
    [
        ({"Authorization": "AWS4-HMAC-SHA256 Credential=A/20260101/eu-west-1/s3/aws4_request"}, "/b/k", "objects"),
        ({"Authorization": "AWS4-HMAC-SHA256 Credential=A/20260101/eu-west-1/sts/aws4_request"}, "/", "control"),
        ({"Authorization": "AWS AKID:c2ln"}, "/b/k", "objects"),
        ({"Host": "bucket.s3.us-east-1.amazonaws.com"}, "/k", "objects"),
        ({"Host": "s3.amazonaws.com"}, "/b/k", "objects"),
        ({"Host": "sts.us-east-1.amazonaws.com"}, "/", "control"),
        ({}, "/b/k?X-Amz-Credential=A%2F20260101%2Fus-east-1%2Fs3%2Faws4_request", "objects"),
        ({}, "/b/k?AWSAccessKeyId=A&Signature=c&Expires=1", "objects"),
        ({"X-Amz-Checksum-Mode": "ENABLED"}, "/b/k", "objects"),
        ({}, "/studio/index.html", "control"),
    ],
)  # fmt: skip
def test_the_service_signed_for_decides_who_answers(door, headers, path, reached):
    _, _, body = send(door, "GET", path, headers=headers)
    assert ("objects" if body.startswith(b"objects ") else "control") == reached


def test_endless_headers_are_cut_off(door, ask):
    with socket.create_connection(("127.0.0.1", door.port), timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
        received = b""
        try:
            for _ in range(200):
                client.sendall(b"x-pad: " + b"y" * 1000 + b"\r\n")
            received = client.recv(1000)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert received == b"" or received.startswith(b"HTTP/1.1 400")
    assert ask(door, "GET", "/")[0] == 200


def test_many_requests_at_once_all_get_their_own_answer(door):
    wrong = []

    def work(number):
        connection = connect(door)
        for turn in range(20):
            connection.request("POST", f"/{number}/{turn}", b"x" * number)
            answer = json.loads(connection.getresponse().read())
            if answer != {"path": f"/{number}/{turn}", "method": "POST", "size": number}:
                wrong.append(answer)
        connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
