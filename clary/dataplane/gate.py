"""Who may invoke: the whole of IAM, whose answers for known callers are remembered in the identity layer."""

from __future__ import annotations

from typing import Protocol

from clary.identity.authorise import Authoriser
from clary.identity.principals import Principal
from clary.wire.http import Request


class Authenticates(Protocol):
    def principal(self, request: Request) -> Principal: ...


class Gate:
    """The door's gatekeeper, for one event loop and its threads."""

    def __init__(self, authenticator: Authenticates, authoriser: Authoriser) -> None:
        self._authenticator = authenticator
        self._authoriser = authoriser

    def __call__(self, request: Request, *, action: str, resource: str) -> Principal:
        """The caller; raise what the identity layer raises where he may not."""
        principal = self._authenticator.principal(request)
        self._authoriser.authorise(principal, action, resource, status=403)
        return principal
