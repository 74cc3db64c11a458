"""The long-lived access keys of users: where they rest, and a cache of those in use."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass

from clary.identity.principals import Principal
from clary.identity.sealing import seal, unseal
from clary.identity.sessions import new_access_key_id
from clary.store.database import Store
from clary.store.rows import Row, RowChanged, RowExists
from clary.wire.sigv4 import Scope

KIND = "iam:AccessKey"
# Not an "iam:" kind: noting a use must not empty the caches that watch that counter.
USE_KIND = "iam-use:AccessKey"
ACTIVE, INACTIVE = "Active", "Inactive"
CACHED_KEYS_MAX = 4096
USE_SECONDS = 3600.0  # the grain of GetAccessKeyLastUsed

_PURPOSE = "access key secret"


@dataclass(frozen=True, slots=True)
class HeldKey:
    principal: Principal
    secret: str
    status: str


def access_key_arn(account: str, access_key: str) -> str:
    """Not an ARN that AWS knows, but one that finds a key without knowing whose it is."""
    return f"arn:aws:iam::{account}:access-key/{access_key}"


def create_access_key(store: Store, account: str, install_key: bytes, user: str) -> tuple[Row, str]:
    """A new key of a user; the secret is shown this once and rests encrypted."""
    access_key = new_access_key_id("AKIA")
    secret = base64.b64encode(secrets.token_bytes(30)).decode()
    sealed = seal(install_key, _PURPOSE, secret.encode(), access_key.encode())
    row = Row(
        kind=KIND,
        name=access_key,
        arn=access_key_arn(account, access_key),
        account=account,
        parent=user,
        status=ACTIVE,
        document={"UserName": user, "SealedSecret": base64.b64encode(sealed).decode()},
    )
    return store.rows.insert(row), secret


class AccessKeys:
    """Finds keys; what it remembers is dropped whenever anything of IAM was written."""

    def __init__(self, store: Store, account: str, install_key: bytes) -> None:
        self._store = store
        self._account = account
        self._install_key = install_key
        # One tuple, replaced as a whole, so that threads see keys only with their generation.
        self._cache: tuple[int, dict[str, HeldKey | None]] = (-1, {})
        self._noted: dict[str, float] = {}

    def find(self, access_key: str) -> HeldKey | None:
        generation = self._store.rows.generation("iam")
        cached_generation, held = self._cache
        if cached_generation != generation or len(held) > CACHED_KEYS_MAX:
            held = {}
            self._cache = (generation, held)
        if access_key not in held:
            # Read after the generation: what is remembered is never older than its label.
            held[access_key] = self._load(access_key)
        return held[access_key]

    def _load(self, access_key: str) -> HeldKey | None:
        row = self._store.rows.by_arn(access_key_arn(self._account, access_key))
        if row is None:
            return None
        user = self._store.rows.get("iam:User", row.parent, account=self._account)
        if user is None:
            return None
        sealed = base64.b64decode(row.document["SealedSecret"])
        secret = unseal(self._install_key, _PURPOSE, sealed, access_key.encode()).decode()
        principal = Principal(
            account=self._account,
            arn=user.arn,
            user_id=user.document["UserId"],
            kind="user",
            name=user.name,
            access_key=access_key,
        )
        return HeldKey(principal, secret, row.status)

    def record_use(self, scope: Scope, now: float) -> None:
        """Note when a key was used, at most once an hour for each."""
        access_key = scope.access_key
        if not access_key.startswith("AKIA"):
            return
        if now - self._noted.get(access_key, 0.0) < USE_SECONDS:
            return
        if len(self._noted) > CACHED_KEYS_MAX:
            self._noted = {}
        self._noted[access_key] = now
        document = {"Date": now, "Service": scope.service, "Region": scope.region}
        rows = self._store.rows
        row = rows.get(USE_KIND, access_key, account=self._account)
        try:
            if row is None:
                arn = access_key_arn(self._account, access_key) + "/use"
                rows.insert(Row(USE_KIND, access_key, arn, self._account, document=document))
            else:
                row.document = document
                rows.update(row)
        except (RowExists, RowChanged):
            # Another process noted the same hour first, which is as good.
            return
