"""The bytes of the model server's responses."""

from __future__ import annotations

import re
from http import HTTPStatus


class Responses:
    """Builds responses; the start of each is the same but for its length, and remembered."""

    def __init__(self) -> None:
        self._starts: dict[tuple[int, str, bool], bytes] = {}

    def build(self, status: int, content_type: str, body: bytes, *, keep_alive: bool) -> bytes:
        """Return the bytes of one response."""
        key = (status, content_type, keep_alive)
        start = self._starts.get(key)
        if start is None:
            start = _response_start(status, content_type, keep_alive=keep_alive)
            if len(self._starts) >= 256:
                self._starts.clear()
            self._starts[key] = start
        return b"%bContent-Length: %d\r\n\r\n%b" % (start, len(body), body)

    def begin(self, status: int, content_type: str, *, chunked: bool, keep_alive: bool) -> bytes:
        """Return the head of a response whose length nobody knows yet."""
        start = _response_start(status, content_type, keep_alive=keep_alive)
        return start + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n")


def _response_start(status: int, content_type: str, *, keep_alive: bool) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Status"
    kind = re.sub(r"[^\x20-\x7e]", "", content_type)
    lines = [f"HTTP/1.1 {status} {phrase}"]
    if kind:
        lines.append(f"Content-Type: {kind}")
    if not keep_alive:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n").encode("ascii")
