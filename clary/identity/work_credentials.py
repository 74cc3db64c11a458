"""The credentials of a job: temporary ones of its execution role, in exchange for its work token."""

from __future__ import annotations

from typing import Any

from clary.identity.principals import session_principal
from clary.identity.sealing import SealBroken
from clary.identity.sessions import WorkClaims, issue
from clary.store.database import Store
from clary.store.rows import Row

SESSION_NAME = "SageMaker"
SECONDS_MAX = 3600.0
RUNNER_ROLE = "ClaryRunner"  # what a work token of a service, rather than a role, acts as


def work_credentials(
    store: Store, account: str, install_key: bytes, claims: WorkClaims, *, now: float
) -> dict[str, Any]:
    """Credentials in the form of the container credentials endpoint.

    They live for an hour at most and never longer than the token. Raise SealBroken if the role is
    gone: whoever asks is then nobody.
    """
    role = _role(store, account, claims.acts_as)
    if role is None:
        raise SealBroken(f"the role of the work is gone: {claims.acts_as}")
    principal = session_principal(
        account, role.arn, role.document["RoleId"], SESSION_NAME, issued=now
    )
    seconds = min(SECONDS_MAX, claims.expires - now)
    issued = issue(install_key, principal, seconds, now=now)
    return {
        "RoleArn": role.arn,
        "AccessKeyId": issued["AccessKeyId"],
        "SecretAccessKey": issued["SecretAccessKey"],
        "Token": issued["SessionToken"],
        "Expiration": issued["Expiration"],
    }


def _role(store: Store, account: str, acts_as: str) -> Row | None:
    if acts_as.startswith("arn:"):
        row = store.rows.by_arn(acts_as)
        return row if row is not None and row.kind == "iam:Role" else None
    return store.rows.get("iam:Role", RUNNER_ROLE, account=account)
