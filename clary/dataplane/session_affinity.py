"""Stateful sessions: a container opens one, and later requests of it reach the same instance.

SessionId NEW_SESSION ── any instance ── New-Session-Id: s; Expires=...   remembered: s is there
SessionId s ── that instance ── Closed-Session-Id: s                      forgotten
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clary.dataplane.invocation import Invocation
from clary.dataplane.routes import Instance
from clary.dataplane.upstream import Headers

SESSION_ID = "x-amzn-sagemaker-session-id"
NEW_SESSION = "NEW_SESSION"
OPENED, CLOSED = b"x-amzn-sagemaker-new-session-id", b"x-amzn-sagemaker-closed-session-id"
REMEMBERED_MAX = 100_000
ID_CHARACTERS_MAX = 256

Key = tuple[str, str, str]  # region, endpoint, variant


class Sessions:
    """Where each session is; the oldest are forgotten first, and none outlives the door."""

    def __init__(self) -> None:
        self._places: OrderedDict[tuple[Key, str], Path] = OrderedDict()

    def place(self, key: Key, session: str) -> Path | None:
        found = self._places.get((key, session))
        if found is not None:
            self._places.move_to_end((key, session))
        return found

    def opened(self, key: Key, session: str, instance: Instance) -> None:
        self._places[key, session] = instance.socket
        if len(self._places) > REMEMBERED_MAX:
            self._places.popitem(last=False)

    def closed(self, key: Key, session: str) -> None:
        self._places.pop((key, session), None)


class SessionInvocation(Invocation):
    """A request of a session, or one that opens it."""

    __slots__ = ("session", "sessions")

    def __init__(self, sessions: Sessions, *members: Any) -> None:
        super().__init__(*members)
        self.sessions = sessions
        self.session = self.headers[SESSION_ID]

    def choose(self, choose: Callable[[], float]) -> Instance:
        if self.session == NEW_SESSION:
            return super().choose(choose)
        instances = self.variant.instances
        place = self.sessions.place(self.variant.key, self.session)
        here = next((one for one in instances if one.socket == place), None)
        if here is None:
            # After a restart of the door nobody knows; the same one at least each time.
            here = max(instances, key=lambda one: _points(one, self.session))
        # An instance that does not answer is not passed over: no other one has the session.
        super().choose(choose)
        self.instance = here
        return here

    def noted(self, status: int, headers: Headers) -> None:
        for name, value in headers:
            session = value.decode("latin-1").partition(";")[0].strip()
            if name == OPENED and session and len(session) <= ID_CHARACTERS_MAX:
                assert self.instance is not None
                self.sessions.opened(self.variant.key, session, self.instance)
            elif name == CLOSED:
                self.sessions.closed(self.variant.key, session)


def _points(instance: Instance, session: str) -> bytes:
    return hashlib.sha256(f"{instance.id}/{session}".encode()).digest()
