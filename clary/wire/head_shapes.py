"""Heads that differ from one read before in a few values only: signature, time, hash and the like.

A client sends the same head again and again but for those. Comparing the bytes between them costs a third
of cutting the head into lines, and whatever follows from what is shared need not be found out twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SHAPES_MAX = 512
SHAPES_PER_LENGTH_MAX = 8
LEARNT_ONE_IN = 8  # heads of no known shape: learning must cost little where it does not help
SIGNATURE = "Signature="
SIGNATURE_DIGITS = 64

# Headers whose values change from request to request and are looked at each time.
CHANGING = frozenset(
    (
        *("authorization", "x-amz-date", "x-amz-content-sha256", "amz-sdk-invocation-id"),
        *("content-length", "x-amzn-sagemaker-inference-id", "x-amzn-sagemaker-target-model"),
    )
)
_PLAIN = bytes(range(0x21, 0x7F))  # printable, and no space


class Shape:
    """The bytes that some heads share, and where those are that they do not."""

    __slots__ = (
        *("authorization", "body_at", "changing", "fixed", "headers", "notes", "spans", "target"),
        "values",
    )

    def __init__(
        self,
        target: tuple[str, str, str],
        headers: Mapping[str, str],
        fixed: Sequence[tuple[bytes, int]],
        spans: Sequence[tuple[str, int, int]],
    ) -> None:
        self.target = target
        self.headers = dict(headers)
        self.body_at = fixed[-1][1] + len(fixed[-1][0])
        self.fixed = tuple(fixed)  # pieces, and where each is
        self.spans = tuple((start, stop) for _, start, stop in spans)
        at = 0
        changing: list[tuple[str, int, int]] = []
        for name, start, stop in spans:
            changing.append((name, at, at + stop - start))
            at += stop - start
        self.changing = tuple(changing)  # names, and where their values are, laid end to end
        self.values = frozenset(name for name, _, _ in spans)  # that change
        # All of it but the signature, which is what changes.
        self.authorization = headers["authorization"][:-SIGNATURE_DIGITS]
        self.notes: dict[object, Any] = {}  # what others found out of what is shared, by whom

    def read(self, data: bytes) -> dict[str, str] | None:
        """The headers of the head that these bytes begin with, if it is of this shape."""
        for piece, at in self.fixed:
            if not data.startswith(piece, at):
                return None
        values = b"".join([data[start:stop] for start, stop in self.spans])
        if not values.isalnum() and values.translate(None, _PLAIN):
            return None
        text = values.decode("ascii")
        headers = self.headers.copy()
        for name, start, stop in self.changing:
            headers[name] = text[start:stop]
        headers["authorization"] = self.authorization + headers["authorization"]
        return headers


class Shapes:
    """Remembers shapes by the length of their heads. Safe for many threads."""

    def __init__(self) -> None:
        self._shapes: dict[int, tuple[Shape, ...]] = {}
        self._last: Shape | None = None
        self._count = 0
        self._missed = 0

    def again(self, data: bytes) -> tuple[Shape, dict[str, str]] | None:
        """The shape and the headers, if the head is of the same shape as the last one."""
        shape = self._last
        if shape is None:
            return None
        headers = shape.read(data)
        return (shape, headers) if headers is not None else None

    def find(self, data: bytes, end: int) -> tuple[Shape, dict[str, str]] | None:
        """The shape of a head that ends at `end`, and its headers."""
        for shape in self._shapes.get(end, ()):
            headers = shape.read(data)
            if headers is not None:
                self._last = shape
                return shape, headers
        return None

    def learn(
        self, lines: Sequence[str], target: tuple[str, str, str], headers: Mapping[str, str]
    ) -> None:
        """Perhaps keep the shape of a head, of which these are the lines without their line feeds."""
        self._missed += 1
        if self._missed % LEARNT_ONE_IN or not _is_signed(headers):
            return
        fixed: list[tuple[bytes, int]] = []
        spans: list[tuple[str, int, int]] = []
        text = "\n".join(lines)
        at, since = len(lines[0]) + 1, 0
        for line in lines[1:]:
            name, _, raw = line[:-1].partition(":")
            value = raw.strip(" ")
            if name.lower() in CHANGING and value:
                start = at + line.index(value, len(name) + 1)
                stop = start + len(value)
                if name.lower() == "authorization":
                    start = stop - SIGNATURE_DIGITS
                fixed.append((text[since:start].encode("latin-1"), since))
                spans.append((name.lower(), start, stop))
                since = stop
            at += len(line) + 1
        # With the blank line: where all of it is found, the head ends here.
        fixed.append((text[since:].encode("latin-1") + b"\n\r\n", since))
        if self._count >= SHAPES_MAX:
            self._shapes = {}
            self._count = 0
        self._count += 1
        end = len(text) - 1
        known = self._shapes.get(end, ())[: SHAPES_PER_LENGTH_MAX - 1]
        self._shapes[end] = (Shape(target, headers, fixed, spans), *known)


def _is_signed(headers: Mapping[str, str]) -> bool:
    """Whether the Authorization header ends with a signature, as the clients of AWS send it."""
    authorization = headers.get("authorization", "")
    return authorization[:-SIGNATURE_DIGITS].endswith(SIGNATURE)
