"""One HTTP request and one HTTP response, free of any server framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Request:
    """A request as received: nothing decoded, so that its signature can be checked."""

    method: str
    path: str  # percent-encoded, without the query string
    query: str  # raw, without the question mark
    headers: Mapping[str, str]  # lower-case names; repeated ones joined by ","
    body: bytes = b""
    peer: str = "127.0.0.1"


@dataclass(slots=True)
class Response:
    status: int
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
