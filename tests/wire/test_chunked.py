"""aws-chunked bodies are decoded as S3 does, however the network cuts them."""

from __future__ import annotations

import hashlib
import io
import time

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.model.errors import ApiError
from clary.wire.chunked import Body, ChunkedBody, ChunkSigner, PlainBody, body_of
from clary.wire.sigv4 import Scope, signing_key

# AWS's published example of a signed chunked upload: 64 KiB and 1 KiB of "a".
SCOPE = Scope("AKIAIOSFODNN7EXAMPLE", "20130524", "us-east-1", "s3")
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
FIRST = "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"
SECOND = "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"
LAST = "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"
SIGNER = ChunkSigner(
    signing_key(SECRET, "20130524", "us-east-1", "s3"), SCOPE, "20130524T000000Z", SEED
)
PUBLISHED = (
    b"10000;chunk-signature=" + FIRST.encode() + b"\r\n" + b"a" * 65536 + b"\r\n"
    b"400;chunk-signature=" + SECOND.encode() + b"\r\n" + b"a" * 1024 + b"\r\n"
    b"0;chunk-signature=" + LAST.encode() + b"\r\n\r\n"
)  # fmt: skip
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


def decode(body: Body, data: bytes, step: int = 0) -> bytes:
    pieces: list[bytes] = []
    for start in range(0, len(data), step or max(len(data), 1)):
        end = start + (step or len(data))
        pieces += [bytes(piece) for piece in body.feed(data[start:end])]
    return b"".join(pieces)


def signed(payload: bytes, size: int, trailers: bytes = b"") -> bytes:
    """A signed chunked body, with trailers if given."""
    previous, out = SEED, bytearray()
    for start in [*range(0, len(payload), size), len(payload)]:
        chunk = payload[start : start + size]
        previous = SIGNER.chunk(previous, hashlib.sha256(chunk).hexdigest())
        out += f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + chunk
        out += b"\r\n" if chunk else b""
    if trailers:
        text = trailers.replace(b"\r\n", b"\n")
        signature = SIGNER.trailer(previous, hashlib.sha256(text).hexdigest())
        out += trailers + f"x-amz-trailer-signature:{signature}\r\n".encode()
    return bytes(out) + b"\r\n"


@pytest.mark.parametrize("step", [0, 1, 7, 1000])
def test_the_published_signed_example_is_decoded(step: int) -> None:
    body = body_of(STREAMING, "66560", SIGNER)
    assert decode(body, PUBLISHED, step) == b"a" * 66560
    assert body.finish() == {}


def test_an_upload_of_botocore_is_decoded_with_its_checksum() -> None:
    payload = bytes(range(256)) * 9000
    wrapped = AwsChunkedWrapper(io.BytesIO(payload), Crc32Checksum, "x-amz-checksum-crc32")
    expected = Crc32Checksum()
    expected.update(payload)
    body = body_of("STREAMING-UNSIGNED-PAYLOAD-TRAILER", str(len(payload)), None)
    assert decode(body, wrapped.read(), 50_000) == payload
    assert body.finish() == {"x-amz-checksum-crc32": expected.b64digest()}


@given(st.binary(max_size=300), st.integers(1, 50), st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_signed_bodies_survive_any_cutting(payload: bytes, size: int, step: int) -> None:
    data = signed(payload, size, b"x-amz-checksum-crc32:AAAAAA==\r\n")
    body = body_of(STREAMING + "-TRAILER", str(len(payload)), SIGNER)
    assert decode(body, data, step) == payload
    assert body.finish() == {"x-amz-checksum-crc32": "AAAAAA=="}


@given(st.integers(0, 330), st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_no_flipped_byte_of_a_signed_body_passes(position: int, flip: int) -> None:
    payload = b"some payload"
    data = bytearray(signed(payload, 5, b"x-amz-checksum-crc32:AAAAAA==\r\n"))
    position %= len(data)
    data[position] ^= flip
    body = body_of(STREAMING + "-TRAILER", str(len(payload)), SIGNER)
    try:
        decoded = decode(body, bytes(data))
        trailers = body.finish()
    except ApiError:
        return
    # Upper and lower case of a size digit or a trailer's name mean the same.
    assert (decoded, trailers) == (payload, {"x-amz-checksum-crc32": "AAAAAA=="})


def test_a_forged_chunk_is_refused() -> None:
    body = body_of(STREAMING, "66560", SIGNER)
    with pytest.raises(ApiError) as caught:
        decode(body, PUBLISHED.replace(b"aaaa", b"abaa", 1))
    assert (caught.value.code, caught.value.status) == ("SignatureDoesNotMatch", 403)


def test_swapped_chunks_are_refused() -> None:
    data = signed(b"aaaaabbbbb", 5)
    length = len(data) - len(b"0;chunk-signature=\r\n\r\n") - 64
    first, second, last = data[: length // 2], data[length // 2 : length], data[length:]
    body = body_of(STREAMING, "10", SIGNER)
    with pytest.raises(ApiError) as caught:
        decode(body, second + first + last)
    assert caught.value.code == "SignatureDoesNotMatch"


def test_a_forged_or_missing_trailer_signature_is_refused() -> None:
    data = signed(b"x", 5, b"x-amz-checksum-crc32:AAAAAA==\r\n")
    forged = data.replace(b"AAAAAA==", b"BAAAAA==")
    stripped = data[: data.index(b"x-amz-checksum")] + b"\r\n"
    for wrong in (forged, stripped):
        body = body_of(STREAMING + "-TRAILER", "1", SIGNER)
        with pytest.raises(ApiError) as caught:
            decode(body, wrong)
        assert caught.value.code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("cut", [1, 30, 100, 66_000, len(PUBLISHED) - 2, len(PUBLISHED) - 1])
def test_a_truncated_body_is_incomplete(cut: int) -> None:
    body = body_of(STREAMING, "66560", SIGNER)
    decode(body, PUBLISHED[:cut])
    with pytest.raises(ApiError) as caught:
        body.finish()
    assert (caught.value.code, caught.value.status) == ("IncompleteBody", 400)


def test_a_body_of_another_length_than_declared_is_incomplete() -> None:
    data = b"3\r\nabc\r\n0\r\n\r\n"
    short = body_of("STREAMING-UNSIGNED-PAYLOAD-TRAILER", "4", None)
    assert decode(short, data) == b"abc"
    with pytest.raises(ApiError, match="did not provide the number of bytes"):
        short.finish()
    with pytest.raises(ApiError, match="did not provide the number of bytes"):
        decode(body_of("STREAMING-UNSIGNED-PAYLOAD-TRAILER", "2", None), data)


@pytest.mark.parametrize(
    "data",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"\r\n",
        b"3\nabc\r\n",
        b"3\r\nabcd\r\n",
        b"11111111111111111\r\n",
        b"3;" + b"x" * 5000,
        b"0\r\n\r\nmore",
    ],
)
def test_a_malformed_chunk_is_refused(data: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        decode(ChunkedBody(None, None), data)
    assert (caught.value.code, caught.value.status) == ("InvalidRequest", 400)


@pytest.mark.parametrize("trailer", [b"no colon\r\n", b"bad name:1\r\n", b"a:1\r\na:2\r\n"])
def test_a_malformed_trailer_is_refused(trailer: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        decode(ChunkedBody(None, None), b"0\r\n" + trailer + b"\r\n")
    assert (caught.value.code, caught.value.status) == ("MalformedTrailerError", 400)


def test_endless_trailers_are_refused() -> None:
    body = ChunkedBody(None, None)
    with pytest.raises(ApiError, match="trailing data"):
        decode(body, b"0\r\n" + b"".join(b"h%d:%s\r\n" % (n, b"v" * 900) for n in range(50)))


def test_a_plain_body_is_hashed_where_a_hash_was_signed() -> None:
    good = body_of(hashlib.sha256(b"hello").hexdigest(), "", None)
    assert isinstance(good, PlainBody)
    assert decode(good, b"hello", 2) == b"hello"
    assert good.finish() == {}
    bad = body_of(hashlib.sha256(b"hello").hexdigest(), "", None)
    decode(bad, b"jello")
    with pytest.raises(ApiError) as caught:
        bad.finish()
    assert caught.value.code == "XAmzContentSHA256Mismatch"


def test_a_streaming_body_must_declare_its_length() -> None:
    with pytest.raises(ApiError) as caught:
        body_of(STREAMING, "", SIGNER)
    assert (caught.value.code, caught.value.status) == ("MissingContentLength", 411)


def test_64_mib_are_decoded_without_copying_in_well_under_a_second() -> None:
    chunk = memoryview(b"x" * (1 << 20))
    body = body_of("STREAMING-UNSIGNED-PAYLOAD-TRAILER", str(64 << 20), None)
    started = time.perf_counter()
    total = 0
    for _ in range(64):
        for data in (b"100000\r\n", chunk, b"\r\n"):
            total += sum(len(piece) for piece in body.feed(data))
    body.feed(b"0\r\n\r\n")
    body.finish()
    assert total == 64 << 20
    assert time.perf_counter() - started < 1.0
