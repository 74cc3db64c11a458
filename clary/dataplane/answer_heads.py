"""The head of a model server's answer, and what it says of the body behind it."""

from __future__ import annotations

import re

from clary.dataplane.upstream import Headers

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: [^\r\n]*)?")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DIGITS = re.compile(rb"\d{1,15}")


class AnswerHead:
    """A parsed head. Servers repeat themselves, so heads are remembered by their bytes."""

    __slots__ = ("framed", "headers", "length", "rendered", "reusable", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.length = 0
        self.framed = False
        self.reusable = False
        self.rendered = b""  # what the asker makes of the headers, remembered along with them

    @staticmethod
    def parse(raw: bytes) -> AnswerHead:
        lines = raw.split(b"\r\n")
        found = _STATUS_LINE.fullmatch(lines[0])
        if found is None:
            raise ValueError("the status line is malformed")
        head = AnswerHead(int(found[2]), [])
        head.framed = head.status in (204, 304) or head.status < 200
        connection = b""
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon or not _NAME.fullmatch(name) or b"\n" in value or b"\r" in value:
                raise ValueError("a header line is malformed")
            name, value = name.lower(), value.strip(b" \t")
            if name == b"content-length":
                head._announce(value)
            elif name == b"connection":
                connection = value.lower()
            head.headers.append((name, value))
        if any(name == b"transfer-encoding" for name, _ in head.headers):
            head.framed = False  # the parser of chunks reads the length, or the end, itself
        old = found[1] == b"0"
        head.reusable = b"keep-alive" in connection if old else b"close" not in connection
        return head

    def _announce(self, value: bytes) -> None:
        length = int(value) if _DIGITS.fullmatch(value) else -1
        if length < 0 or (self.length and self.length != length):
            raise ValueError("the Content-Length is malformed")
        if self.status not in (204, 304) and self.status >= 200:
            self.length = length
        self.framed = True
