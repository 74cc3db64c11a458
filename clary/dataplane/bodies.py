"""Reading request bodies into memory, bounded each and bounded together."""

from __future__ import annotations

from clary.dataplane.answers import Receive, Scope
from clary.model.errors import ApiError, ServiceUnavailable

SMALL_BYTES = 64 * 1024  # bodies up to this size are not counted: connections bound them


class ClientGone(Exception):
    """The client hung up before its body was complete; nobody waits for an answer."""


class BodyBudget:
    """The memory that all bodies being read or waiting may take together."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_taken = 0

    def take(self, size: int) -> None:
        if self.bytes_taken + size > self.bytes_max:
            raise ServiceUnavailable(
                "Too many large requests are being received at once. Please try again."
            )
        self.bytes_taken += size

    def give(self, size: int) -> None:
        self.bytes_taken -= size


class Body:
    """One request's body; a context, so that its share of the budget always comes back."""

    __slots__ = ("_budget", "_limit", "_taken", "_what")

    def __init__(self, budget: BodyBudget, limit: int, what: str) -> None:
        self._budget = budget
        self._limit = limit
        self._what = what
        self._taken = 0

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._taken:
            self._budget.give(self._taken)

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body; ApiError where it is too large, ClientGone where it breaks off."""
        declared = _content_length(scope)
        if declared > self._limit:
            raise self._too_large()
        if declared > SMALL_BYTES:
            self._take(declared)
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            return message.get("body", b"")
        body = bytearray()
        while True:
            if message["type"] != "http.request":
                raise ClientGone
            body += message.get("body", b"")
            if len(body) > self._limit:
                raise self._too_large()
            if len(body) > max(self._taken, SMALL_BYTES):
                self._take(2 * len(body) - self._taken)
            if not message.get("more_body"):
                return bytes(body)
            message = await receive()

    def _take(self, size: int) -> None:
        self._budget.take(size)
        self._taken += size

    def _too_large(self) -> ApiError:
        return ApiError(
            f"The body of the request exceeds the limit of {self._limit} bytes for {self._what}.",
            code="ValidationError" if self._what == "invocations" else "RequestEntityTooLarge",
            status=413,
        )


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
    return 0
