"""An object read as one stream, however often its connection breaks."""

from __future__ import annotations

import zlib

from .s3_answers import S3Error, crc_value, uri_of
from .uploads import Calls

RESUMPTIONS_MAX = 6
BUFFER_BYTES = 1024 * 1024


class ObjectStream:
    """An object's bytes, in order; a broken connection is resumed by Range under its ETag.

    The object replaced meanwhile raises S3Error PreconditionFailed; bytes that do not match the
    CRC32 that the server sent raise S3Error BadDigest at the end.
    """

    def __init__(self, s3: Calls, bucket: str, key: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._key = key
        self._crc = 0
        self._answer = s3.call("GET", bucket, key, headers={"x-amz-checksum-mode": "ENABLED"})
        self._etag = self._answer.headers.get("etag", "")
        self._expected_crc = crc_value(self._answer.headers)
        self.size = self._answer.length or 0
        self.position = 0

    def readinto(self, view: memoryview) -> int:
        """Fill some of `view`; 0 at the object's end, which has then been checked."""
        count = self._receive(view)
        if not count:
            if self._expected_crc is not None and self._crc != self._expected_crc:
                message = "The bytes received do not match their CRC32."
                raise S3Error(500, "BadDigest", message, uri_of(self._bucket, self._key))
            return 0
        self.position += count
        if self._expected_crc is not None:
            self._crc = zlib.crc32(view[:count], self._crc)
        return count

    def read(self, size: int) -> bytes:
        """Between one and `size` bytes, none only at the end."""
        buffer = bytearray(max(1, min(size, BUFFER_BYTES)))
        count = self.readinto(memoryview(buffer))
        return bytes(memoryview(buffer)[:count])

    def read_all(self) -> bytes:
        """What is left; for small objects."""
        parts: list[bytes] = []
        while True:
            data = self.read(self.size - self.position or BUFFER_BYTES)
            if not data:
                return b"".join(parts)
            parts.append(data)

    def close(self) -> None:
        self._answer.close()

    def _receive(self, view: memoryview) -> int:
        resumptions = 0
        while True:
            try:
                return self._answer.read_into(view)
            except OSError:
                resumptions += 1
                if resumptions > RESUMPTIONS_MAX:
                    raise
                self._resume()

    def _resume(self) -> None:
        self._answer.close()
        headers = {"range": f"bytes={self.position}-"}
        if self._etag:
            headers["if-match"] = self._etag
        self._answer = self._s3.call("GET", self._bucket, self._key, headers=headers)
        if self._answer.status != 206 and self.position:
            self._answer.close()
            message = "The object cannot be resumed."
            raise S3Error(412, "PreconditionFailed", message, uri_of(self._bucket, self._key))
