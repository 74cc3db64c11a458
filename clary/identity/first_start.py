"""What a new installation needs before anybody can sign a request: an administrator and two roles."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clary.identity.access_keys import ACTIVE, create_access_key
from clary.identity.access_keys import KIND as ACCESS_KEY
from clary.identity.managed_policies import PREFIX
from clary.identity.sealing import install_key
from clary.identity.sessions import new_unique_id
from clary.identity.work_credentials import RUNNER_ROLE
from clary.settings import Settings
from clary.store.database import Store
from clary.store.rows import Row, RowExists

ADMINISTRATOR = "admin"
EXECUTION_ROLE = "ClaryExecutionRole"

_ADMINISTRATOR_ACCESS = PREFIX + "AdministratorAccess"
_RUNNER_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": [
                "logs:CreateLogGroup",
                "logs:CreateLogStream",
                "logs:PutLogEvents",
                "logs:DescribeLogStreams",
                "cloudwatch:PutMetricData",
                "sagemaker:BatchPutMetrics",
            ],
            "Resource": "*",
        }
    ],
}


def prepare(store: Store, settings: Settings, clock: Callable[[], float]) -> dict[str, str]:
    """Make what is missing, leave what is there; answer the administrator's credentials.

    The answer is {"AccessKeyId", "SecretAccessKey"}, as in `credentials.json`. Safe to call at
    every start: an administrator who was given other policies keeps them.
    """
    now = float(int(clock()))
    account = settings.account
    _insert(store, _administrator(account, now))
    services = ["sagemaker.amazonaws.com", "lambda.amazonaws.com", "events.amazonaws.com"]
    services += ["scheduler.amazonaws.com", "states.amazonaws.com"]
    execution = _role(account, EXECUTION_ROLE, services, now)
    execution.document["Description"] = "The role that jobs and endpoints of this installation use."
    execution.document["AttachedPolicies"] = [_ADMINISTRATOR_ACCESS]
    # Whoever administers may act as the role, which is what `clary env` does.
    execution.document["AssumeRolePolicyDocument"] = _trust(services, account)
    _insert(store, execution)
    runner = _role(account, RUNNER_ROLE, ["sagemaker.amazonaws.com"], now)
    runner.document["Description"] = "What the keeper of a job may do: ship its logs and metrics."
    runner.document["Policies"] = {"LogsAndMetrics": json.dumps(_RUNNER_POLICY)}
    _insert(store, runner)
    return _administrator_key(store, settings)


def _insert(store: Store, row: Row) -> None:
    try:
        store.rows.insert(row)
    except RowExists:
        # It was made at an earlier start, and its owner may have changed it since.
        return


def _administrator(account: str, now: float) -> Row:
    document = {
        "Path": "/",
        "UserId": new_unique_id("AIDA"),
        "PermissionsBoundary": "",
        "Policies": {},
        "AttachedPolicies": [_ADMINISTRATOR_ACCESS],
        "Groups": [],
    }
    arn = f"arn:aws:iam::{account}:user/{ADMINISTRATOR}"
    return Row("iam:User", ADMINISTRATOR, arn, account, document=document, created=now)


def _role(account: str, name: str, services: list[str], now: float) -> Row:
    document: dict[str, Any] = {
        "Path": "/",
        "RoleId": new_unique_id("AROA"),
        "AssumeRolePolicyDocument": _trust(services, ""),
        "MaxSessionDuration": 43_200,
        "PermissionsBoundary": "",
        "Policies": {},
        "AttachedPolicies": [],
    }
    arn = f"arn:aws:iam::{account}:role/{name}"
    return Row("iam:Role", name, arn, account, document=document, created=now)


def _trust(services: list[str], account: str) -> str:
    principal: dict[str, Any] = {"Service": services if len(services) > 1 else services[0]}
    if account:
        principal["AWS"] = f"arn:aws:iam::{account}:root"
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _administrator_key(store: Store, settings: Settings) -> dict[str, str]:
    """The key in the file, if it still opens the door; else a new one."""
    path = settings.home / "credentials.json"
    held = _read(path)
    if held is not None:
        row = store.rows.get(
            ACCESS_KEY, held["AccessKeyId"], account=settings.account, parent=ADMINISTRATOR
        )
        if row is not None and row.status == ACTIVE:
            return held
    key = install_key(settings.home)
    row, secret = create_access_key(store, settings.account, key, ADMINISTRATOR)
    credentials = {"AccessKeyId": row.name, "SecretAccessKey": secret}
    _write_private(path, json.dumps(credentials, indent=2) + "\n")
    return credentials


def _read(path: Path) -> dict[str, str] | None:
    try:
        held = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if not isinstance(held, dict) or not {"AccessKeyId", "SecretAccessKey"} <= held.keys():
        return None
    return held


def _write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
