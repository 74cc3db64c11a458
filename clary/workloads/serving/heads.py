"""The heads of requests to the model server: a strict parser, and a memory of what it has parsed.

Clients on a kept-alive connection send the same head again and again, so heads are remembered
by their bytes: a known head costs one dictionary look-up, less than a callback into any parser.
Whatever is not plain HTTP/1.1 is refused and the connection closed: a request must never be
understood in two ways.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

HEADERS_MAX = 128
REMEMBERED_HEADS_MAX = 4096
REMEMBERED_HEAD_BYTES_MAX = 4096

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class BadRequest(Exception):
    """Bytes that are not a request this server answers; the connection ends after the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Head:
    """The request line and the headers of one request."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    length: int
    chunked: bool
    keep_alive: bool
    expects_continue: bool
    may_chunk: bool  # HTTP/1.0 clients know no chunks


class Heads:
    """Parses heads and remembers the short ones."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def parse(self, raw: bytes) -> Head:
        """Return the head; `BadRequest` where it is not plain HTTP/1.1 or 1.0."""
        head = self._known.get(raw)
        if head is None:
            head = parse_head(raw)
            if len(raw) <= REMEMBERED_HEAD_BYTES_MAX:
                if len(self._known) >= REMEMBERED_HEADS_MAX:
                    self._known.clear()
                self._known[raw] = head
        return head


def parse_head(raw: bytes) -> Head:
    """Parse a head without its closing blank line."""
    lines = raw.split(b"\r\n")
    words = lines[0].split(b" ")
    if len(words) != 3 or not _TOKEN.fullmatch(words[0]) or not _TARGET.fullmatch(words[1]):
        raise BadRequest(400, "The request line is malformed.")
    if words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise BadRequest(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    if len(lines) - 1 > HEADERS_MAX:
        raise BadRequest(431, f"A request has at most {HEADERS_MAX} headers.")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or _CONTROL.search(value):
            raise BadRequest(400, "A header line is malformed.")
        key = name.decode("ascii").lower()
        text = value.strip(b" \t").decode("latin-1")
        if key in headers:
            if key in ("content-length", "transfer-encoding", "host"):
                raise BadRequest(400, f"The header {key} is given twice.")
            text = headers[key] + ", " + text
        headers[key] = text
    return _head(words, headers)


def _head(words: list[bytes], headers: dict[str, str]) -> Head:
    coding = headers.get("transfer-encoding")
    size = headers.get("content-length")
    if coding is not None and (coding.lower() != "chunked" or size is not None):
        raise BadRequest(400, "Transfer-Encoding must be chunked, without a Content-Length.")
    if size is not None and not _DIGITS.fullmatch(size.encode("latin-1")):
        raise BadRequest(400, "The Content-Length is not a number.")
    connection = headers.get("connection", "").lower()
    old = words[2] == b"HTTP/1.0"
    path, _, query = words[1].decode("ascii").partition("?")
    return Head(
        method=words[0].decode("ascii"),
        path=path,
        query=query,
        headers=MappingProxyType(headers),
        length=int(size or 0),
        chunked=coding is not None,
        keep_alive="keep-alive" in connection if old else "close" not in connection,
        expects_continue=headers.get("expect", "").lower() == "100-continue",
        may_chunk=not old,
    )
