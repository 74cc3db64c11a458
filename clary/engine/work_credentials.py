"""Credentials of jobs and endpoints: of their own role for user code, of Clary's runner role for logs and metrics."""

from __future__ import annotations

from typing import Any

from clary.identity.sealing import SealBroken
from clary.identity.sessions import issue_work_token, open_work_token
from clary.identity.work_credentials import RUNNER_ROLE, work_credentials
from clary.store.database import Store

TOKEN_SECONDS = (
    400 * 24 * 3600
)  # an endpoint may serve for a year; its work being gone ends it sooner


def issue_for_work(
    store: Store, account: str, install_key: bytes, role_arn: str, work_arn: str, now: float
) -> dict[str, Any]:
    """`tokens` and first `credentials` of a host spec; raise SealBroken if the role is gone."""
    tokens: dict[str, str] = {}
    credentials: dict[str, dict[str, Any]] = {}
    for who, acts_as in {"role": role_arn or RUNNER_ROLE, "service": RUNNER_ROLE}.items():
        tokens[who] = issue_work_token(install_key, acts_as, work_arn, now + TOKEN_SECONDS)
        claims = open_work_token(install_key, tokens[who], now=now)
        credentials[who] = work_credentials(store, account, install_key, claims, now=now)
    return {"role_arn": role_arn, "tokens": tokens, "credentials": credentials}


def renew_for_work(
    store: Store, account: str, install_key: bytes, token: str, now: float
) -> dict[str, Any]:
    """Fresh credentials for a work token; raise SealBroken if it is not ours, too old, or its work is gone."""
    claims = open_work_token(install_key, token, now=now)
    if store.rows.by_arn(claims.work_arn) is None:
        raise SealBroken(f"{claims.work_arn} does not exist any more")
    return work_credentials(store, account, install_key, claims, now=now)
