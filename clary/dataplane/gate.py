"""Who may invoke, decided quickly for clients that are known: half of an invocation's cost otherwise.

The whole check, by the identity layer, decides everything. What it let in is remembered, by the
unchanging part of the Authorization header and the session token, for as long as nothing of IAM is
written: the signing key, the principal and the decisions that no condition can change. A later
request of the same client then costs its hashes and little more. The short way only ever lets in;
whatever does not fit goes the whole way, which words the refusal.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Protocol

from clary.identity.access_keys import ACTIVE, AccessKeys
from clary.identity.authorise import Authoriser, Standing
from clary.identity.principals import Principal
from clary.identity.sealing import SealBroken
from clary.identity.sessions import TEMPORARY_PREFIX, Sessions
from clary.store.database import Store
from clary.wire.canonical_request import canonical_path
from clary.wire.http import Request
from clary.wire.signature_times import SKEW_SECONDS_MAX, epoch_of
from clary.wire.sigv4 import ALGORITHM, Scope, scope_of, signing_key

KNOWN_MAX = 4096
REMEMBERED_MAX = 4096  # paths, and decisions of one client
PREFIX_CHARACTERS_MAX = 1024


class Authenticates(Protocol):
    def authenticate(self, request: Request) -> HasPrincipal: ...


class HasPrincipal(Protocol):
    @property
    def principal(self) -> Principal: ...
    @property
    def scope(self) -> Scope: ...


class _Known:
    """A client that was let in: what its next requests have in common with the last one."""

    __slots__ = (
        "allowed",
        "date",
        "expires",
        "key",
        "lasting",
        "names",
        "principal",
        "scope_text",
        "signed_headers",
    )

    def __init__(
        self, principal: Principal, scope: Scope, key: bytes, signed_headers: str, expires: float
    ) -> None:
        self.principal = principal
        self.date = scope.date
        self.scope_text = scope.text
        self.key = key
        self.signed_headers = signed_headers
        self.names = tuple(signed_headers.split(";"))
        self.expires = expires
        self.lasting = False  # whether its decisions hold until IAM is written
        self.allowed: set[tuple[str, str]] = set()  # actions and resources


class Gate:
    """The door's gatekeeper, for one event loop and its threads."""

    def __init__(
        self,
        store: Store,
        account: str,
        install_key: bytes,
        authenticator: Authenticates,
        authoriser: Authoriser,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._authenticator = authenticator
        self._authoriser = authoriser
        self._clock = clock
        self._keys = AccessKeys(store, account, install_key)
        self._sessions = Sessions(install_key)
        # One tuple, replaced as a whole, so that threads see clients only with their generation.
        self._known: tuple[int, dict[tuple[str, str], _Known]] = (-1, {})
        self._paths: dict[str, str] = {}

    def __call__(self, request: Request, *, action: str, resource: str) -> Principal:
        """The caller; raise what the identity layer raises where he may not."""
        generation = self._store.rows.generation("iam")
        if generation != self._known[0]:
            self._known = (generation, {})
        clients = self._known[1]
        prefix, found, signature = request.headers.get("authorization", "").rpartition("Signature=")
        name = (prefix, request.headers.get("x-amz-security-token", ""))
        known = clients.get(name) if found else None
        if known is None or not self._is_signed(known, request, signature):
            principal = self._authenticator.authenticate(request).principal
            if known is None:
                known = self._remember(clients, name, principal)
            elif known.principal != principal:
                known = None
        else:
            principal = known.principal
        if known is None:
            self._authoriser.authorise(principal, action, resource, status=403)
            return principal
        if (action, resource) not in known.allowed:
            self._authoriser.authorise(principal, action, resource, status=403)
            if known.lasting and len(known.allowed) < REMEMBERED_MAX:
                known.allowed.add((action, resource))
        return principal

    def _is_signed(self, known: _Known, request: Request, signature: str) -> bool:
        """Whether the signature is good; False may also mean that this is not for the short way."""
        headers = request.headers
        stamp = headers.get("x-amz-date", "")
        when = epoch_of(stamp)
        now = self._clock()
        if when is None or not -SKEW_SECONDS_MAX <= now - when <= SKEW_SECONDS_MAX:
            return False
        if stamp[:8] != known.date or now >= known.expires or request.query:
            return False
        path = self._paths.get(request.path) or self._canonical(request.path)
        payload = hashlib.sha256(request.body).hexdigest()
        if headers.get("x-amz-content-sha256", payload) != payload:
            return False
        lines = [request.method, path, ""]
        for name in known.names:
            value = headers.get(name, "")
            if "  " in value or "\t" in value:
                value = " ".join(value.split())
            lines.append(f"{name}:{value.strip()}")
        lines += ("", known.signed_headers, payload)
        canonical = "\n".join(lines)
        if not canonical.isascii():
            return False
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"{ALGORITHM}\n{stamp}\n{known.scope_text}\n{digest}"
        good = hmac.digest(known.key, text.encode(), "sha256").hex()
        return signature.isascii() and hmac.compare_digest(good, signature)

    def _remember(
        self, clients: dict[tuple[str, str], _Known], name: tuple[str, str], principal: Principal
    ) -> _Known | None:
        """Keep a client that was just let in by the whole check, if the short way is for it."""
        prefix, token = name
        start = f"{ALGORITHM} Credential="
        if not prefix.startswith(start) or len(prefix) > PREFIX_CHARACTERS_MAX:
            return None
        credential, _, rest = prefix.removeprefix(start).partition(",")
        scope = scope_of(credential)
        signed_headers = rest.strip().removeprefix("SignedHeaders=").rstrip(", ")
        if scope is None or scope.service != "sagemaker":
            return None
        if "host" not in signed_headers.split(";"):
            return None
        secret, expires = self._secret(scope.access_key, token)
        if not secret:
            return None
        key = signing_key(secret, scope.date, scope.region, scope.service)
        known = _Known(principal, scope, key, signed_headers, expires)
        known.lasting = _is_unconditional(self._authoriser.standing(principal))
        if len(clients) >= KNOWN_MAX:
            clients.clear()
        clients[name] = known
        return known

    def _secret(self, access_key: str, token: str) -> tuple[str, float]:
        """The secret behind a key that the whole check accepted, and when it ends."""
        if access_key.startswith(TEMPORARY_PREFIX) and token:
            try:
                session = self._sessions.open(access_key, token)
            except SealBroken:
                return "", 0.0
            return session.secret, session.expires
        held = self._keys.find(access_key)
        usable = held is not None and held.status == ACTIVE and not token
        return (held.secret, float("inf")) if held is not None and usable else ("", 0.0)

    def _canonical(self, path: str) -> str:
        if len(self._paths) >= REMEMBERED_MAX:
            self._paths.clear()
        canonical = self._paths[path] = canonical_path(path, "sagemaker")
        return canonical


def _is_unconditional(standing: Standing) -> bool:
    """Whether no policy of a principal asks for anything that differs between its requests."""
    policies = standing.policies
    every = [*policies.identity, *(policies.session or ())]
    if policies.boundary is not None:
        every.append(policies.boundary)
    for one in every:
        for statement in one.policy.statements:
            if statement.conditions:
                return False
            patterns = statement.resources.patterns if statement.resources is not None else ()
            if any(pattern.variable for pattern in patterns):
                return False
    return True
