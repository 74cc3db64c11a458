"""One HTTP request and one HTTP response, free of any server framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from clary.wire.head_shapes import Shape


@dataclass(slots=True)
class Request:
    """A request as received: nothing decoded, so that its signature can be checked."""

    method: str
    path: str  # percent-encoded, without the query string
    query: str  # raw, without the question mark
    headers: Mapping[str, str]  # lower-case names; repeated ones joined by ","
    body: bytes = b""
    peer: str = "127.0.0.1"
    # What it shares with others, where all but the body is as it was received.
    shape: Shape | None = field(default=None, compare=False, repr=False)


@dataclass(slots=True)
class Response:
    status: int
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
