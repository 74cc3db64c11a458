"""Request bodies as sent: bounded decompression of the encodings that AWS SDKs use."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from clary.model.errors import ApiError
from clary.wire.coerce import Malformed

BODY_BYTES_MAX = 64 * 1024 * 1024
# Window sizes for zlib: a gzip member, and a zlib stream ("deflate" in HTTP).
WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


def plain_body(headers: Mapping[str, str], body: bytes) -> bytes:
    """The body without its Content-Encoding; Malformed if corrupt, 413 if it grows too large."""
    encodings = headers.get("content-encoding")
    if not encodings or not body:
        return body
    for encoding in reversed(encodings.lower().split(",")):
        window = WINDOWS.get(encoding.strip())
        if window is not None:
            body = inflate(body, window)
    return body


def inflate(body: bytes, window: int) -> bytes:
    engine = zlib.decompressobj(window)
    try:
        plain = engine.decompress(body, BODY_BYTES_MAX + 1)
    except zlib.error as problem:
        raise Malformed("The request body does not match its Content-Encoding") from problem
    if len(plain) > BODY_BYTES_MAX:
        raise ApiError(
            f"The request body is larger than {BODY_BYTES_MAX} bytes when decompressed",
            code="RequestEntityTooLargeException",
            status=413,
        )
    if not engine.eof or engine.unused_data:
        raise Malformed("The request body does not match its Content-Encoding")
    return plain
