"""Who may invoke: the door's question to the identity layer, in that layer's terms."""

from __future__ import annotations

import asyncio
from typing import Protocol
from urllib.parse import unquote

from clary.dataplane.answers import Scope
from clary.identity.principals import Principal
from clary.wire.http import Request

IN_THREAD_BYTES = 512 * 1024  # hashing more than this would hold up every other connection


class Gatekeeper(Protocol):
    """Verifies a signature and evaluates the policies.


    Called on the event loop, so it must be quick. Raises an ApiError that is ready for the
    client: a bad signature, an expired token, AccessDeniedException.
    """

    def __call__(self, request: Request, *, action: str, resource: str) -> Principal: ...


def as_request(scope: Scope, body: bytes) -> Request:
    """The request as its signer saw it: nothing decoded but the bytes of the headers."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    client = scope.get("client")
    return Request(
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        body=body,
        peer=client[0] if client else "unknown",
    )


async def admit(
    gatekeeper: Gatekeeper, request: Request, *, action: str, resource: str
) -> Principal:
    if len(request.body) < IN_THREAD_BYTES:
        return gatekeeper(request, action=action, resource=resource)
    return await asyncio.to_thread(gatekeeper, request, action=action, resource=resource)


def endpoint_name(encoded: bytes) -> str:
    return unquote(encoded.decode("latin-1"))
