"""A head that is like the last one is read by comparing bytes: the same headers, or none at all."""

from __future__ import annotations

import pytest

from clary.wire.head_shapes import LEARNT_ONE_IN
from clary.wire.request_heads import Head, RequestHeads

SIGNED = "Credential=AKIA/20260601/us-east-1/sagemaker/aws4_request, SignedHeaders=host, Signature="


def head(
    number: int = 0,
    *,
    body: str = "1,2",
    length: str = "",
    target: str = "a.tar.gz",
    more: str = "",
) -> bytes:
    lines = [
        "POST /endpoints/iris/invocations HTTP/1.1",
        "Host: 127.0.0.1:4510",
        "Content-Type:  text/csv ",
        f"X-Amz-Date: 20260601T0000{number % 60:02d}Z",
        f"X-Amzn-SageMaker-Target-Model: {target}",
        f"Authorization: AWS4-HMAC-SHA256 {SIGNED}{number:064x}",
        f"amz-sdk-invocation-id: 00000000-0000-4000-8000-{number:012x}",
        *([more] if more else []),
        f"Content-Length: {length or len(body)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("latin-1")


def familiar() -> RequestHeads:
    heads = RequestHeads()
    for number in range(2 * LEARNT_ONE_IN):
        heads.parse(head(number))
    return heads


def told(found: Head | None) -> tuple[object, ...] | None:
    if found is None:
        return None
    return (
        *(found.method, found.path, found.query, list(found.headers.items())),
        *(found.body_at, found.size, found.keep_alive),
    )


def test_a_head_of_a_known_shape_tells_what_a_new_one_would() -> None:
    heads = familiar()
    data = head(77, target="b.tar.gz", body="345")
    found = heads.parse(data)
    assert found is not None and found.shape is not None
    assert told(found) == told(RequestHeads().parse(data))
    assert found.headers["x-amzn-sagemaker-target-model"] == "b.tar.gz"
    assert found.headers["authorization"] == f"AWS4-HMAC-SHA256 {SIGNED}{77:064x}"
    assert found.headers["content-type"] == "text/csv"


def test_headers_of_one_request_are_not_those_of_the_next_of_its_shape() -> None:
    heads = familiar()
    first = heads.parse(head(1))
    assert first is not None and first.shape is not None
    first.headers["host"] = "changed"
    second = heads.parse(head(2))
    assert second is not None and second.headers["host"] == "127.0.0.1:4510"


@pytest.mark.parametrize(
    "data",
    [
        head(5, body="1,2,3,4,5,6,7"),
        head(5, target="a b.tgz"),
        head(5, target="a\tb.tgz"),
        head(5, target="\xe9.tar.gz"),
        head(5, target=" .tar.gz"),
        head(5, target="a\r\nb: cd"),
        head(5, target="a\nb.tgz"),
        head(5, target="a\r\n\r\n.tg"),
        head(5, length="x"),
        head(5, length="-"),
        head(5, more="Connection: close"),
        head(5, more="Transfer-Encoding: chunked"),
        head(5).replace(b"iris", b"rose"),
        head(5).replace(b"4510", b"4511"),
        head(5).replace(b"Host", b"host"),
        head(5).replace(b"Signature=", b"Signatures"),
        head(5).replace(b"AKIA", b"ASIA"),
        head(5).replace(b"POST", b"BREW"),
        head(5).replace(b"HTTP/1.1", b"HTTP/1.0"),
        head(5).replace(b"\r\n\r\n", b"\r\nX: y\r\n\r\n"),
        head(5)[:-4],
        head(5)[:-40],
        b"",
    ],
)
def test_any_other_head_is_read_as_if_no_shape_were_known(data: bytes) -> None:
    assert told(familiar().parse(data)) == told(RequestHeads().parse(data))


def test_what_never_comes_again_is_not_learnt() -> None:
    heads = RequestHeads()
    for number in range(8 * LEARNT_ONE_IN):
        found = heads.parse(head(number, more=f"X-Trace: {number:06d}"))
        assert found is not None and found.shape is None


def test_clients_whose_heads_are_equally_long_are_told_apart() -> None:
    heads = RequestHeads()
    names = [b"iri%d" % number for number in range(6)]
    for _ in range(20 * LEARNT_ONE_IN):
        for name in names:
            heads.parse(head(3).replace(b"iris", name))
    for name in names:
        found = heads.parse(head(4).replace(b"iris", name))
        assert found is not None and found.shape is not None
        assert found.path == f"/endpoints/{name.decode()}/invocations"
