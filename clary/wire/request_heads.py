"""The heads of plain HTTP/1.1 requests, read in one go: what clients of AWS send, and nothing unusual.

A general parser calls back for each header, which costs more than most requests' other work. What is
not plainly such a head (chunked, upgraded, repeated headers, control characters) is left to one: `parse`
returns None, and nothing has happened yet.
"""

from __future__ import annotations

import re

from clary.wire.head_shapes import CHANGING, Shape, Shapes

HEAD_BYTES_MAX = 16 * 1024
REMEMBERED_MAX = 1024
LINE_REMEMBERED_MAX = 2048
TARGET_REMEMBERED_MAX = 256

_REQUEST_LINE = re.compile(
    r"(GET|HEAD|PUT|POST|DELETE|PATCH|OPTIONS) (/[!\"$->@-~]*)(?:\?([!\"$-~]*))? HTTP/1\.1\r"
)
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Headers of which a client's next request has the same line.
_REPEATED = frozenset(
    (
        *("host", "user-agent", "accept", "accept-encoding", "content-type", "content-length"),
        *("connection", "amz-sdk-request", "x-amz-security-token", "x-amz-date", "x-amz-target"),
        *("x-amz-sdk-checksum-algorithm", "x-amz-checksum-mode", "x-clary-peer"),
    )
)
_EXPECTED = _REPEATED | frozenset(
    (
        *("authorization", "x-amz-content-sha256"),
        *("amz-sdk-invocation-id", "x-amzn-sagemaker-inference-id"),
    )
)
_BODILESS = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))  # unless they say otherwise
# The meaning of these reaches beyond one header.
_LEFT_TO_OTHERS = frozenset(("transfer-encoding", "expect", "upgrade", "proxy-connection"))


class Head:
    """A request line and its headers; `size` counts the head and the body behind it."""

    __slots__ = ("body_at", "headers", "keep_alive", "method", "path", "query", "shape", "size")

    def __init__(
        self,
        target: tuple[str, str, str],
        headers: dict[str, str],
        body_at: int,
        length: int,
        shape: Shape | None = None,
    ) -> None:
        self.shape = shape
        self.method, self.path, self.query = target
        self.headers = headers  # lower-case names
        self.body_at = body_at
        self.size = body_at + length
        self.keep_alive = "close" not in headers.get("connection", "").lower()


class RequestHeads:
    """Parses heads; remembers the lines that clients send again and again. Safe for many threads."""

    def __init__(self) -> None:
        self._targets: dict[str, tuple[str, str, str]] = {}
        self._lines: dict[str, tuple[str, str]] = {}
        self._shapes = Shapes()

    def parse(self, data: bytes) -> Head | None:
        """The head that `data` begins with; the body behind it may not be complete."""
        found = self._shapes.again(data)
        if found is None:
            end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
            if end < 0:
                return None
            found = self._shapes.find(data, end)
            if found is None:
                return self._parse(data, end)
        shape, headers = found
        length = headers["content-length"]
        if not length.isdigit():
            return None
        return Head(shape.target, headers, shape.body_at, int(length), shape)

    def _parse(self, data: bytes, end: int) -> Head | None:
        """A head of no known shape, which ends at `end`."""
        # One byte is found much faster than two: every line keeps its carriage return.
        lines = data[: end + 1].decode("latin-1").split("\n")
        target = self._targets.get(lines[0]) or self._target(lines[0])
        if target is None:
            return None
        headers: dict[str, str] = {}
        known = self._lines
        again = target[0] == "POST"  # whether the like of it was seen before
        for line in lines[1:]:
            pair = known.get(line)
            if pair is None:
                pair = self._header(line)
                if pair is None:
                    return None
                again = again and pair[0] in CHANGING
            if pair[0] in headers:
                return None
            headers[pair[0]] = pair[1]
        length = headers.get("content-length") or ("0" if target[0] in _BODILESS else "")
        if not length.isascii() or not length.isdigit() or len(length) > 15:
            return None
        if again:
            self._shapes.learn(lines, target, headers)
        return Head(target, headers, end + 4, int(length))

    def _target(self, line: str) -> tuple[str, str, str] | None:
        """Method, path and query of a request line."""
        found = _REQUEST_LINE.fullmatch(line)
        if found is None:
            return None
        target = (found[1], found[2], found[3] or "")
        if len(line) <= TARGET_REMEMBERED_MAX:
            if len(self._targets) >= REMEMBERED_MAX:
                self._targets.clear()
            self._targets[line] = target
        return target

    def _header(self, line: str) -> tuple[str, str] | None:
        """Name in lower case and value; None where the line is not plainly a header's, or others'.

        Control characters, bare line feeds among them, are not printable; nor are tabs.
        """
        name, colon, value = line[:-1].partition(":")
        lower = name.lower()
        if not colon or not line.endswith("\r") or not value.isprintable():
            return None
        if lower not in _EXPECTED and (lower in _LEFT_TO_OTHERS or not _NAME.fullmatch(name)):
            return None
        pair = (lower, value.strip(" "))
        if lower in _REPEATED and len(line) <= LINE_REMEMBERED_MAX:
            if len(self._lines) >= REMEMBERED_MAX:
                self._lines.clear()
            self._lines[line] = pair
        return pair
