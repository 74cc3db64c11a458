"""The bodies of S3 uploads as they arrive: plain, or cut into aws-chunked pieces.

    <size in hex>[;chunk-signature=<hex>] CRLF <payload> CRLF   ... once per chunk
    0[;chunk-signature=<hex>] CRLF
    [x-amz-checksum-crc32:<base64> CRLF]                        ... trailing headers
    [x-amz-trailer-signature:<hex> CRLF]
    CRLF

A decoder is fed bytes as they come and gives back views of the payload in them, without copying.
A payload is handed out before the signature of its chunk is known, so that memory stays bounded
whatever the chunk size: a caller must not make it visible before `finish` has returned.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Protocol

from clary.model.errors import ApiError
from clary.wire.signature_errors import refusal
from clary.wire.sigv4 import (
    EMPTY_SHA256,
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    UNVERIFIED_PAYLOADS,
    Scope,
    body_refusal,
    mismatch,
)

HEADER_BYTES_MAX = 1024  # of one chunk header or one trailing header
TRAILER_BYTES_MAX = 8 * 1024

_CHUNK_HEADER = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?")
_TRAILER_NAME = re.compile(r"[a-z0-9-]{1,128}")


class Body(Protocol):
    """A request body being received. `feed` gives the payload in `data`; `finish` the trailers."""

    def feed(self, data: bytes | bytearray | memoryview) -> list[memoryview]: ...

    def finish(self) -> dict[str, str]: ...


@dataclass(frozen=True, slots=True)
class ChunkSigner:
    """What signs the chunks of one request: its own signature is the first link of their chain."""

    key: bytes
    scope: Scope
    time: str
    seed: str

    def chunk(self, previous: str, digest: str) -> str:
        return self._sign("AWS4-HMAC-SHA256-PAYLOAD", previous, f"{EMPTY_SHA256}\n{digest}")

    def trailer(self, previous: str, digest: str) -> str:
        return self._sign("AWS4-HMAC-SHA256-TRAILER", previous, digest)

    def _sign(self, algorithm: str, previous: str, digests: str) -> str:
        text = f"{algorithm}\n{self.time}\n{self.scope.text}\n{previous}\n{digests}"
        return hmac.digest(self.key, text.encode(), "sha256").hex()


def body_of(
    payload: str, decoded_length: str, signer: ChunkSigner | None, *, chunked: bool = False
) -> Body:
    """The decoder for a signed payload mode (`Signature.payload`).

    `decoded_length` is the header x-amz-decoded-content-length; `chunked` is true where
    Content-Encoding says aws-chunked, which a plain UNSIGNED-PAYLOAD may also do.
    """
    if not payload.startswith("STREAMING-") and not chunked:
        return PlainBody("" if payload in UNVERIFIED_PAYLOADS else payload)
    length: int | None = None
    if decoded_length:
        if not (decoded_length.isascii() and decoded_length.isdigit() and len(decoded_length) < 19):
            message = "The value of x-amz-decoded-content-length is not valid."
            raise ApiError(message, code="InvalidArgument", status=400)
        length = int(decoded_length)
    elif payload.startswith("STREAMING-"):
        message = "You must provide the Content-Length HTTP header."
        raise ApiError(message, code="MissingContentLength", status=411)
    signed = payload in (STREAMING_SIGNED, STREAMING_SIGNED_TRAILER)
    if signed and signer is None:
        raise refusal("missing", "s3", "Access Denied")
    trailer = payload == STREAMING_SIGNED_TRAILER
    return ChunkedBody(signer if signed else None, length, trailer_signed=trailer)


class PlainBody:
    """A body that is its own payload; its hash is checked where one was signed."""

    def __init__(self, declared_sha256: str) -> None:
        self._declared = declared_sha256
        self._hash = hashlib.sha256() if declared_sha256 else None

    def feed(self, data: bytes | bytearray | memoryview) -> list[memoryview]:
        if self._hash is not None:
            self._hash.update(data)
        return [memoryview(data)]

    def finish(self) -> dict[str, str]:
        if self._hash is not None and self._hash.hexdigest() != self._declared:
            raise body_refusal(self._declared, self._hash.hexdigest(), "s3")
        return {}


class ChunkedBody:
    """An aws-chunked body; with a signer, every chunk and the trailers must be signed."""

    def __init__(
        self,
        signer: ChunkSigner | None,
        decoded_length: int | None,
        *,
        trailer_signed: bool = False,
    ) -> None:
        self._signer = signer
        self._expected = decoded_length
        self._trailer_signed = trailer_signed
        self._received = 0
        self._state = "header"  # "header" | "data" | "data_end" | "trailer" | "done"
        self._line = bytearray()  # of a header that is not complete yet
        self._left = 0  # payload bytes of the current chunk still to come
        self._hash = hashlib.sha256()
        self._previous = signer.seed if signer else ""
        self._claimed = ""
        self._trailers: dict[str, str] = {}
        self._trailer_text = bytearray()
        self._trailer_bytes = 0

    def feed(self, data: bytes | bytearray | memoryview) -> list[memoryview]:
        """The payload in `data`, as views of it."""
        view = memoryview(data)
        payload: list[memoryview] = []
        at, end = 0, len(view)
        while at < end:
            if self._state == "data":
                piece = view[at : at + self._left]
                self._take(piece)
                payload.append(piece)
                at += len(piece)
            elif self._state == "done":
                raise _malformed("The request body continues after its last chunk.")
            else:
                at = self._read_line(view, at)
        return payload

    def finish(self) -> dict[str, str]:
        """The trailing headers, lower-case; raise unless the body was whole and its signatures
        right.
        """
        if self._state != "done":
            raise _incomplete()
        if self._expected is not None and self._received != self._expected:
            raise _incomplete()
        return self._trailers

    def _take(self, piece: memoryview) -> None:
        self._left -= len(piece)
        self._received += len(piece)
        if self._signer is not None:
            self._hash.update(piece)
        if self._expected is not None and self._received > self._expected:
            raise _incomplete()
        if self._left == 0:
            self._state = "data_end"

    def _read_line(self, view: memoryview, at: int) -> int:
        """Consume up to the end of the current line; act on it when it is whole."""
        window = bytes(view[at : at + HEADER_BYTES_MAX + 2 - len(self._line)])
        found = window.find(b"\n")
        if found < 0:
            self._line += window
            if len(self._line) > HEADER_BYTES_MAX:
                raise _malformed("A chunk header is too long.")
            return at + len(window)
        line = bytes(self._line) + window[: found + 1]
        self._line.clear()
        if not line.endswith(b"\r\n"):
            raise _malformed("A chunk header does not end in CRLF.")
        self._accept(line[:-2])
        return at + found + 1

    def _accept(self, line: bytes) -> None:
        if self._state == "header":
            self._begin_chunk(line)
        elif self._state == "data_end":
            if line:
                raise _malformed("A chunk is longer than its header says.")
            self._end_chunk()
            self._state = "header"
        else:
            self._accept_trailer(line)

    def _begin_chunk(self, line: bytes) -> None:
        found = _CHUNK_HEADER.fullmatch(line)
        if found is None or (self._signer is not None and found[2] is None):
            raise _malformed("A chunk header is not well-formed.")
        self._left = int(found[1], 16)
        self._claimed = (found[2] or b"").decode()
        self._hash = hashlib.sha256()
        self._state = "data"
        if self._left == 0:
            self._end_chunk()
            self._state = "trailer"

    def _end_chunk(self) -> None:
        if self._signer is None:
            return
        expected = self._signer.chunk(self._previous, self._hash.hexdigest())
        if not hmac.compare_digest(expected, self._claimed):
            raise mismatch("s3")
        self._previous = expected

    def _accept_trailer(self, line: bytes) -> None:
        if not line:
            self._end_trailers()
            return
        self._trailer_bytes += len(line)
        name, colon, value = line.decode("latin-1").partition(":")
        name, value = name.strip().lower(), value.strip()
        if not colon or not _TRAILER_NAME.fullmatch(name) or name in self._trailers:
            raise _malformed_trailer()
        if self._trailer_bytes > TRAILER_BYTES_MAX or "x-amz-trailer-signature" in self._trailers:
            raise _malformed_trailer()
        self._trailers[name] = value
        if name != "x-amz-trailer-signature":
            self._trailer_text += f"{name}:{value}\n".encode("latin-1")

    def _end_trailers(self) -> None:
        claimed = self._trailers.pop("x-amz-trailer-signature", "")
        signed = self._trailer_signed or self._trailers or claimed
        if self._signer is not None and signed:
            digest = hashlib.sha256(self._trailer_text).hexdigest()
            expected = self._signer.trailer(self._previous, digest)
            if not hmac.compare_digest(expected.encode(), claimed.encode("latin-1")):
                raise mismatch("s3")
        self._state = "done"


def _incomplete() -> ApiError:
    message = "You did not provide the number of bytes specified by the Content-Length HTTP header"
    return ApiError(message, code="IncompleteBody", status=400)


def _malformed(detail: str) -> ApiError:
    message = f"The aws-chunked request body is not well-formed. {detail}"
    return ApiError(message, code="InvalidRequest", status=400)


def _malformed_trailer() -> ApiError:
    message = (
        "The request contained trailing data that was not well-formed or did not conform to our "
        "published schema."
    )
    return ApiError(message, code="MalformedTrailerError", status=400)
