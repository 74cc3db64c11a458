"""Small requests, from the bytes of a connection to whoever answers them with bytes.

An HTTP server framework costs more than most of what the door does for such a request. What is not plainly
one, signed in its head and with a small body, is left to it: `parse` returns None, and nothing has happened yet.
"""

from __future__ import annotations

from typing import Protocol

from clary.wire.request_heads import Head, RequestHeads
from clary.wire.sigv4 import scope_of

BODY_BYTES_MAX = 64 * 1024  # larger ones are counted against the memory of all bodies together
OBJECT_SERVICES = ("s3", "s3express")


class Client(Protocol):
    """The connection that an answer goes to."""

    @property
    def scheme(self) -> str | None: ...

    def reply(self, data: bytes) -> None: ...


class Shortcut(Protocol):
    def __call__(self, call: Call, data: bytes, peer: str, client: Client, /) -> bool:
        """Take a call, whose head and body are `data`, and tell the client once, now or later.

        False, and nothing has happened, where the framework is to answer.
        """
        ...


class Call:
    """A request on a shortcut; `region` is the one that it is signed for."""

    __slots__ = ("answer", "head", "region")

    def __init__(self, head: Head, region: str, answer: Shortcut) -> None:
        self.head = head
        self.region = region
        self.answer = answer


class Shortcuts:
    """Tells which shortcut a request takes; one for all connections."""

    def __init__(
        self, *, invocations: Shortcut, control: Shortcut, objects: Shortcut | None = None
    ) -> None:
        self._invocations = invocations
        self._control = control
        self._objects = objects
        self._heads = RequestHeads()

    def parse(self, data: bytes) -> Call | None:
        """The call that `data` begins with; its body may not be complete."""
        head = self._heads.parse(data)
        if head is None or head.size - head.body_at > BODY_BYTES_MAX:
            return None
        shape = head.shape
        if shape is None:
            way = self._way(head)
        else:
            way = shape.notes.get(self)
            if way is None:
                way = shape.notes[self] = self._way(head)
        answer = way[1]
        return Call(head, way[0], answer) if answer is not None else None

    def _way(self, head: Head) -> tuple[str, Shortcut | None]:
        """The region of a request and who answers it, which its shape tells as well as it does."""
        scope = scope_of(_credential(head.headers.get("authorization", "")))
        # Clary's own routes are told by their path, whatever the request is signed for.
        if scope is None or head.path.startswith("/_clary/"):
            return "", None
        if scope.service in OBJECT_SERVICES:
            answer = self._objects
        elif scope.service == "sagemaker" and head.path.startswith("/endpoints/"):
            answer = self._invocations
        else:
            answer = self._control
        return scope.region, answer


def _credential(authorization: str) -> str:
    """The scope that a signature names: AWS4-HMAC-SHA256 Credential=<scope>, SignedHeaders=..."""
    start = authorization.find("Credential=") + len("Credential=")
    return authorization[start : authorization.find(",", start)].strip()
