"""STS: who am I, and credentials of roles that trust me."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clary.companions import iam_roles, sts
from clary.engine.call import Call
from clary.identity.authorise import Authoriser
from clary.identity.first_start import prepare
from clary.identity.principals import Principal, session_principal
from clary.identity.sealing import install_key
from clary.identity.sessions import Sessions
from clary.model.errors import ApiError
from clary.settings import Settings
from clary.store.database import Store

ACCOUNT = "123456789012"
NOW = 1_767_225_600.0
ROOT = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
HANDLERS = {
    member.answers: member
    for module in (sts, iam_roles)
    for member in vars(module).values()
    if hasattr(member, "answers")
}


class Sts:
    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.store = Store.open(f"sqlite:///{home}/clary.db")
        prepare(self.store, self.settings, self.clock)
        admin = self.store.rows.get("iam:User", "admin", account=ACCOUNT)
        assert admin is not None
        self.admin = Principal(ACCOUNT, admin.arn, admin.document["UserId"], "user", "admin")
        self.sessions = Sessions(install_key(home))
        self.authoriser = Authoriser(self.store, self.settings, self.clock)

    def clock(self) -> float:
        return NOW

    def __call__(self, name: str, who: Principal | None = None, **asked: Any) -> dict[str, Any]:
        service = "sts" if ("sts", name) in HANDLERS else "iam"
        parts = SimpleNamespace(settings=self.settings, store=self.store, clock=self.clock)
        principal = who or self.admin
        call = Call(service, name, asked, ACCOUNT, "", principal, "id", NOW, parts)  # type: ignore[arg-type]
        return HANDLERS[service, name](call)

    def fails(self, name: str, who: Principal | None = None, **asked: Any) -> tuple[str, int, str]:
        with pytest.raises(ApiError) as caught:
            self(name, who, **asked)
        return caught.value.code, caught.value.status, caught.value.message

    def role(self, principal: Any, action: Any = "sts:AssumeRole", **condition: Any) -> str:
        statement = {"Effect": "Allow", "Principal": principal, "Action": action}
        if condition:
            statement["Condition"] = condition
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        made = self("CreateRole", RoleName="Deployer", AssumeRolePolicyDocument=trust)
        return made["Role"]["Arn"]

    def opened(self, credentials: dict[str, Any]) -> Principal:
        key, token = credentials["AccessKeyId"], credentials["SessionToken"]
        session = self.sessions.open(key, token)
        assert session.secret == credentials["SecretAccessKey"]
        assert session.expires == credentials["Expiration"]
        return session.principal


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Sts]:
    ask = Sts(tmp_path)
    yield ask
    ask.store.close()


def test_the_caller_is_told_who_it_is(ask: Sts) -> None:
    assert ask("GetCallerIdentity") == {
        "UserId": ask.admin.user_id,
        "Account": ACCOUNT,
        "Arn": f"arn:aws:iam::{ACCOUNT}:user/admin",
    }
    role = f"arn:aws:iam::{ACCOUNT}:role/service-role/R"
    session = session_principal(ACCOUNT, role, "AROAR", "SageMaker")
    assert ask("GetCallerIdentity", session) == {
        "UserId": "AROAR:SageMaker",
        "Account": ACCOUNT,
        "Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/R/SageMaker",
    }


def test_a_trusted_caller_assumes_a_role(ask: Sts) -> None:
    arn = ask.role(ROOT)
    answer = ask("AssumeRole", RoleArn=arn, RoleSessionName="work", DurationSeconds=900)
    assert answer["Credentials"]["Expiration"] == NOW + 900
    user = answer["AssumedRoleUser"]
    assert user["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/Deployer/work"
    principal = ask.opened(answer["Credentials"])
    assert (principal.arn, principal.user_id) == (user["Arn"], user["AssumedRoleId"])
    assert principal.role_arn == arn
    assert "PackedPolicySize" not in answer


def test_the_execution_role_can_be_assumed_by_its_administrator(ask: Sts) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:role/ClaryExecutionRole"
    answer = ask("AssumeRole", RoleArn=arn, RoleSessionName="env", DurationSeconds=43_200)
    principal = ask.opened(answer["Credentials"])
    assert ask.authoriser.allows(principal, "sagemaker:CreateModel", "*").allowed


@pytest.mark.parametrize(
    "trusted",
    [
        {"Service": "sagemaker.amazonaws.com"},
        {"AWS": "210987654321"},
        {"AWS": f"arn:aws:iam::{ACCOUNT}:user/other"},
    ],
)
def test_a_role_that_does_not_trust_the_caller_is_refused(ask: Sts, trusted: Any) -> None:
    arn = ask.role(trusted)
    code, status, message = ask.fails("AssumeRole", RoleArn=arn, RoleSessionName="work")
    assert (code, status) == ("AccessDenied", 403)
    assert message == (
        f"User: arn:aws:iam::{ACCOUNT}:user/admin is not authorized to perform: sts:AssumeRole on "
        f"resource: {arn}"
    )


def test_a_role_that_does_not_exist_is_refused_alike(ask: Sts) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:role/Nobody"
    code, status, _ = ask.fails("AssumeRole", RoleArn=arn, RoleSessionName="work")
    assert (code, status) == ("AccessDenied", 403)


def test_the_external_id_must_be_the_one_agreed(ask: Sts) -> None:
    arn = ask.role(ROOT, StringEquals={"sts:ExternalId": "secret"})
    asked = {"RoleArn": arn, "RoleSessionName": "work"}
    assert ask.fails("AssumeRole", **asked)[0] == "AccessDenied"
    assert ask.fails("AssumeRole", **asked, ExternalId="guess")[0] == "AccessDenied"
    assert ask("AssumeRole", **asked, ExternalId="secret")["Credentials"]


def test_sessions_live_as_long_as_the_role_permits(ask: Sts) -> None:
    arn = ask.role(ROOT)
    asked = {"RoleArn": arn, "RoleSessionName": "work"}
    assert ask("AssumeRole", **asked)["Credentials"]["Expiration"] == NOW + 3600
    expected = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
    assert ask.fails("AssumeRole", **asked, DurationSeconds=3601) == (
        "ValidationError",
        400,
        expected,
    )
    execution = f"arn:aws:iam::{ACCOUNT}:role/ClaryExecutionRole"
    chained = ask.opened(
        ask("AssumeRole", RoleArn=execution, RoleSessionName="first")["Credentials"]
    )
    code, _, message = ask.fails(
        "AssumeRole", chained, RoleArn=execution, RoleSessionName="second", DurationSeconds=7200
    )
    assert code == "ValidationError" and "role chaining" in message
    assert ask("AssumeRole", chained, RoleArn=execution, RoleSessionName="second")


def test_a_session_policy_narrows_the_session(ask: Sts) -> None:
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    arn = f"arn:aws:iam::{ACCOUNT}:role/ClaryExecutionRole"
    asked = {"RoleArn": arn, "RoleSessionName": "work"}
    answer = ask("AssumeRole", **asked, Policy=policy)
    assert answer["PackedPolicySize"] >= 1
    principal = ask.opened(answer["Credentials"])
    assert ask.authoriser.allows(principal, "s3:GetObject", "arn:aws:s3:::b/k").allowed
    assert not ask.authoriser.allows(principal, "s3:PutObject", "arn:aws:s3:::b/k").allowed
    assert ask.fails("AssumeRole", **asked, Policy="x")[:2] == ("MalformedPolicyDocument", 400)
    read = {"arn": "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"}
    principal = ask.opened(ask("AssumeRole", **asked, PolicyArns=[read])["Credentials"])
    assert not ask.authoriser.allows(principal, "s3:PutObject", "arn:aws:s3:::b/k").allowed


def test_session_tags_need_the_consent_of_the_role(ask: Sts) -> None:
    arn = ask.role(ROOT, ["sts:AssumeRole", "sts:TagSession"])
    tags = [{"Key": "team", "Value": "red"}]
    answer = ask("AssumeRole", RoleArn=arn, RoleSessionName="work", Tags=tags)
    assert ask.opened(answer["Credentials"]).session_tags == (("team", "red"),)
    execution = f"arn:aws:iam::{ACCOUNT}:role/ClaryExecutionRole"
    code, _, message = ask.fails("AssumeRole", RoleArn=execution, RoleSessionName="work", Tags=tags)
    assert code == "AccessDenied" and "sts:TagSession" in message


def test_a_user_gets_a_session_token_but_a_session_does_not(ask: Sts) -> None:
    credentials = ask("GetSessionToken")["Credentials"]
    assert credentials["Expiration"] == NOW + 43_200
    principal = ask.opened(credentials)
    assert (principal.arn, principal.kind) == (ask.admin.arn, "user")
    assert ask.authoriser.allows(principal, "sagemaker:CreateModel", "*").allowed
    assert ask.fails("GetSessionToken", principal)[:2] == ("AccessDenied", 403)
    role = session_principal(ACCOUNT, "arn:aws:iam::1:role/R", "AROA", "s")
    assert ask.fails("GetSessionToken", role)[:2] == ("AccessDenied", 403)


def test_the_account_of_a_key_is_told(ask: Sts) -> None:
    key = ask.store.rows.every("iam:AccessKey", account=ACCOUNT)[0].name
    assert ask("GetAccessKeyInfo", AccessKeyId=key) == {"Account": ACCOUNT}
    code = ask.fails("GetAccessKeyInfo", AccessKeyId="AKIANOBODY0000000000")[0]
    assert code == "ValidationError"
