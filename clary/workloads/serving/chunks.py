"""Bodies of requests whose length is not announced."""

from __future__ import annotations

import re

from clary.workloads.serving.heads import BadRequest

CHUNK_LINE_MAX = 256

_HEX = re.compile(rb"[0-9A-Fa-f]{1,15}")


class Chunks:
    """Takes the chunked body of one request out of a buffer, piece by piece."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._trailer = False

    def feed(self, buffer: bytearray) -> bytes | None:
        """Consume what is complete; return the body once its last chunk is in."""
        while True:
            line_end = buffer.find(b"\r\n", 0, CHUNK_LINE_MAX)
            if line_end < 0:
                if len(buffer) >= CHUNK_LINE_MAX:
                    raise BadRequest(400, "A chunk's size line is too long.")
                return None
            if self._trailer:
                del buffer[: line_end + 2]
                if not line_end:
                    return b"".join(self._parts)
                continue
            word = bytes(buffer[:line_end]).partition(b";")[0].strip()
            if not _HEX.fullmatch(word):
                raise BadRequest(400, "A chunk's size is not a number.")
            size = int(word, 16)
            if self._size + size > self._limit:
                raise BadRequest(413, f"A request body has at most {self._limit} bytes.")
            if not size:
                self._trailer = True
                del buffer[: line_end + 2]
                continue
            end = line_end + 2 + size
            if len(buffer) < end + 2:
                return None
            if buffer[end : end + 2] != b"\r\n":
                raise BadRequest(400, "A chunk does not end where its size says.")
            self._parts.append(bytes(buffer[line_end + 2 : end]))
            self._size += size
            del buffer[: end + 2]
