"""Credentials of jobs and endpoints: of their own role for user code, of Clary's runner role for logs and metrics."""

from __future__ import annotations

from typing import Any

from clary.identity.principals import session_principal
from clary.identity.sealing import SealBroken
from clary.identity.sessions import issue, issue_work_token, open_work_token
from clary.model.arns import Arn
from clary.store.database import Store

RUNNER_ROLE = "ClaryRunner"
SESSION = "SageMaker"
SESSION_SECONDS = 6 * 3600
TOKEN_SECONDS = (
    30 * 24 * 3600
)  # no job lives longer; an endpoint's hosts are renewed when they restart


def issue_for_work(
    store: Store, install_key: bytes, role_arn: str, work_arn: str, now: float
) -> dict[str, Any]:
    """`tokens` and first `credentials` of a host spec."""
    account = Arn.parse(work_arn)
    runner_arn = f"arn:aws:iam::{account.account if account else ''}:role/{RUNNER_ROLE}"
    acts_as = {"role": role_arn or runner_arn, "service": runner_arn}
    tokens: dict[str, str] = {}
    credentials: dict[str, dict[str, Any]] = {}
    for who, arn in acts_as.items():
        tokens[who] = issue_work_token(install_key, arn, work_arn, now + TOKEN_SECONDS)
        issued = _issue(store, install_key, arn, now)
        credentials[who] = {
            "AccessKeyId": issued["AccessKeyId"],
            "SecretAccessKey": issued["SecretAccessKey"],
            "Token": issued["SessionToken"],
            "Expiration": issued["Expiration"],
        }
    return {"role_arn": role_arn, "tokens": tokens, "credentials": credentials}


def renew_for_work(store: Store, install_key: bytes, token: str, now: float) -> dict[str, Any]:
    """Fresh credentials for a work token; raise SealBroken if it is not ours, too old, or its work is gone."""
    claims = open_work_token(install_key, token, now=now)
    if store.rows.by_arn(claims.work_arn) is None:
        raise SealBroken(f"{claims.work_arn} does not exist any more")
    return _issue(store, install_key, claims.acts_as, now)


def _issue(store: Store, install_key: bytes, role_arn: str, now: float) -> dict[str, Any]:
    row = store.rows.by_arn(role_arn)
    if row is None:
        raise SealBroken(f"the role {role_arn} does not exist any more")
    account = row.account or (Arn.parse(role_arn) or Arn("", "", "", "", "")).account
    role_id = str(row.document.get("RoleId", ""))
    principal = session_principal(account, role_arn, role_id, SESSION, issued=now)
    return issue(install_key, principal, SESSION_SECONDS, now=now)
