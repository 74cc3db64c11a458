"""Plain heads are read at once, and whatever is not plainly one is left to a general parser."""

from __future__ import annotations

import pytest

from clary.wire.request_heads import RequestHeads

GET = b"GET /b/k?x=1 HTTP/1.1\r\nHost: h\r\nX-Odd:  a  B \r\n\r\n"
PUT = b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"


def test_a_head_tells_target_headers_and_where_its_body_is() -> None:
    heads = RequestHeads()
    got, put = heads.parse(GET), heads.parse(PUT)
    assert got is not None and put is not None
    assert (got.method, got.path, got.query) == ("GET", "/b/k", "x=1")
    assert got.headers == {"host": "h", "x-odd": "a  B"}
    assert (got.size, put.body_at, put.size) == (len(GET), len(PUT) - 3, len(PUT))
    assert got.keep_alive


def test_a_client_that_says_close_is_not_kept() -> None:
    head = RequestHeads().parse(GET.replace(b"Host: h", b"Host: h\r\nConnection: Close"))
    assert head is not None and not head.keep_alive


def test_headers_of_one_request_are_not_those_of_the_next() -> None:
    heads = RequestHeads()
    first = heads.parse(GET)
    assert first is not None
    first.headers["host"] = "changed"
    second = heads.parse(GET)
    assert second is not None and second.headers["host"] == "h"


@pytest.mark.parametrize(
    "data",
    [
        GET[:-2],
        b"\r\n" + GET,
        GET.replace(b"GET", b"BREW"),
        GET.replace(b"1.1", b"1.0"),
        GET.replace(b" /b", b" http://h/b"),
        GET.replace(b"/b/k", b"/b/\xff"),
        GET.replace(b"/b/k", b"/b#k"),
        GET.replace(b"/b/k", b"/b k"),
        GET.replace(b"Host: h", b"Host : h"),
        GET.replace(b"Host: h", b"Host: h\nEvil: y"),
        GET.replace(b"Host: h", b"Host: h\r\n folded"),
        GET.replace(b"Host: h", b"Host: h\r\nhost: i"),
        GET.replace(b"Host: h", b"Host: \x00"),
        GET.replace(b"Host: h", b"Transfer-Encoding: chunked"),
        GET.replace(b"Host: h", b"Expect: 100-continue"),
        GET.replace(b"Host: h", b"Upgrade: h2c"),
        PUT.replace(b"Content-Length: 3\r\n", b""),
        PUT.replace(b": 3", b": -3"),
        PUT.replace(b": 3", b": 3, 3"),
        PUT.replace(b": 3", b": \xb2"),
        GET.replace(b"Host: h", b"Host: " + b"h" * 20_000),
    ],
)
def test_what_is_not_plain_is_left_to_others(data: bytes) -> None:
    assert RequestHeads().parse(data) is None
