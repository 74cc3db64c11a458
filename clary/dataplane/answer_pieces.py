"""The body of an answer whose head does not say how long it is: in chunks, or up to the connection's end."""

from __future__ import annotations

import re

from clary.dataplane.answer_heads import AnswerHead

LINE_BYTES_MAX = 4096  # of a chunk's size with its extensions, or of a trailer
TRAILER_BYTES_MAX = 64 * 1024

_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_LINE_END = b"\r\n"


class Pieces:
    """Puts one such answer together, up to a bound."""

    def __init__(self, head: AnswerHead, bytes_max: int) -> None:
        coding = [value for name, value in head.headers if name == b"transfer-encoding"]
        if coding and (len(coding) > 1 or coding[0].strip().lower() != b"chunked"):
            raise ValueError("the Transfer-Encoding is not chunked")
        self.head = head
        self.too_large = False
        self.body = bytearray()
        self._bytes_max = bytes_max
        self._chunks = Chunks() if coding else None

    @property
    def end_with_connection(self) -> bool:
        return self._chunks is None

    def feed(self, data: bytes) -> int:
        """Take what arrived; return how much of it was this answer's if that is whole, else -1."""
        used = -1
        if self._chunks is None:
            self.body += data
        else:
            used = self._chunks.feed(data, self.body)
        if len(self.body) > self._bytes_max:
            self.too_large = True
            self.body.clear()
        return used


class Chunks:
    """Takes the chunks of one answer out of what arrives."""

    def __init__(self) -> None:
        self._line = b""  # what has come of a line that says a size, or is a trailer
        self._left = 0  # of a chunk, with the two bytes behind it
        self._in_trailer = False
        self._trailer_bytes = 0

    def feed(self, data: bytes, body: bytearray) -> int:
        """Append to the body; return where the answer ends in the data, or -1."""
        at = 0
        while at < len(data):
            if self._left > 2:
                taken = data[at : at + self._left - 2]
                body += taken
                at += len(taken)
                self._left -= len(taken)
            elif self._left:
                if data[at] != _LINE_END[2 - self._left]:
                    raise ValueError("a chunk does not end where its size says")
                at += 1
                self._left -= 1
            else:
                end = data.find(b"\n", at) + 1 or len(data)
                self._line += data[at:end]
                at = end
                if self._take_line():
                    return at
        return -1

    def _take_line(self) -> bool:
        """Use the line if it is whole; True if it was the last one of the answer."""
        if len(self._line) > LINE_BYTES_MAX:
            raise ValueError("a line between chunks is too long")
        if not self._line.endswith(b"\n"):
            return False
        line, self._line = self._line, b""
        if not line.endswith(_LINE_END):
            raise ValueError("a line between chunks is malformed")
        line = line[:-2]
        if self._in_trailer:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > TRAILER_BYTES_MAX:
                raise ValueError("the trailer is too long")
            return not line
        word = line.partition(b";")[0].strip()
        if not _SIZE.fullmatch(word):
            raise ValueError("a chunk's size is not a number")
        size = int(word, 16)
        if size:
            self._left = size + 2
        else:
            self._in_trailer = True
        return False
