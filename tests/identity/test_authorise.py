"""The authoriser reads users, groups and roles from the store, and forgets them when they change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clary.identity.authorise import Authoriser
from clary.identity.first_start import prepare
from clary.identity.principals import Principal, service_principal, session_principal
from clary.model.errors import AccessDeniedException
from clary.settings import Settings
from clary.store.database import Store
from clary.store.rows import Row
from clary.wire.signature_errors import Style

ACCOUNT = "123456789012"
S3_READ = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
JOB = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:training-job/mine"


def document(effect: str, action: Any, resource: Any = "*", **more: Any) -> str:
    statement = {"Effect": effect, "Action": action, "Resource": resource, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


class World:
    def __init__(self, home: Path) -> None:
        self.store = Store.open(f"sqlite:///{home}/clary.db")
        self.now = 1_767_225_600.0  # 2026-01-01
        settings = Settings(home=home)
        prepare(self.store, settings, lambda: self.now)
        self.authoriser = Authoriser(self.store, settings, lambda: self.now)

    def add(self, kind: str, name: str, **document: Any) -> Row:
        base = {"Policies": {}, "AttachedPolicies": [], "PermissionsBoundary": "", "Groups": []}
        base |= {"UserId": "AIDA" + name, "RoleId": "AROA" + name}
        arn = f"arn:aws:iam::{ACCOUNT}:{kind.lower()}/{name}"
        row = Row(f"iam:{kind}", name, arn, ACCOUNT, document=base | document)
        return self.store.rows.insert(row)

    def user(self, name: str) -> Principal:
        arn = f"arn:aws:iam::{ACCOUNT}:user/{name}"
        return Principal(ACCOUNT, arn, "AIDA" + name, "user", name)

    def session(self, name: str) -> Principal:
        arn = f"arn:aws:iam::{ACCOUNT}:role/{name}"
        return session_principal(ACCOUNT, arn, "AROA" + name, "job")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.store.close()


def may(world: World, who: Principal, action: str, resource: str = "*", **context: Any) -> bool:
    keys = {name.replace("__", ":"): value for name, value in context.items()}
    return world.authoriser.allows(who, action, resource, keys).allowed


def test_a_user_without_policies_may_nothing_and_is_told_so(world: World) -> None:
    world.add("User", "ann")
    with pytest.raises(AccessDeniedException) as caught:
        world.authoriser.authorise(world.user("ann"), "sagemaker:StopTrainingJob", JOB)
    assert caught.value.status == 400
    assert caught.value.message == (
        f"User: arn:aws:iam::{ACCOUNT}:user/ann is not authorized to perform: "
        f"sagemaker:StopTrainingJob on resource: {JOB} because no identity-based policy allows "
        "the sagemaker:StopTrainingJob action"
    )


@pytest.mark.parametrize(
    ("style", "code", "status"),
    [
        ("json", "AccessDeniedException", 400),
        ("rest", "AccessDeniedException", 403),
        ("query", "AccessDenied", 403),
        ("s3", "AccessDenied", 403),
    ],
)
def test_a_denial_has_the_wire_form_of_the_service(
    world: World, style: Style, code: str, status: int
) -> None:
    world.add("User", "ann")
    with pytest.raises(AccessDeniedException) as caught:
        world.authoriser.authorise(world.user("ann"), "iam:GetRole", "*", style=style)
    assert (caught.value.code, caught.value.status) == (code, status)


def test_inline_attached_and_group_policies_add_up(world: World) -> None:
    world.add("Group", "team", Policies={"p": document("Allow", "sqs:*")})
    inline = {"p": document("Allow", "logs:*")}
    world.add("User", "ann", Policies=inline, AttachedPolicies=[S3_READ], Groups=["team", "gone"])
    ann = world.user("ann")
    assert may(world, ann, "logs:PutLogEvents")
    assert may(world, ann, "s3:GetObject", "arn:aws:s3:::b/k")
    assert may(world, ann, "sqs:SendMessage")
    assert not may(world, ann, "s3:PutObject", "arn:aws:s3:::b/k")


def test_a_change_of_policy_is_felt_at_once(world: World) -> None:
    row = world.add("User", "ann")
    ann = world.user("ann")
    assert not may(world, ann, "s3:GetObject")
    row.document["AttachedPolicies"] = [S3_READ]
    row = world.store.rows.update(row)
    assert may(world, ann, "s3:GetObject")
    world.store.rows.delete(row)
    assert not may(world, ann, "s3:GetObject")


def test_an_own_managed_policy_counts_in_its_default_version(world: World) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:policy/mine"
    versions = {
        "v1": {"Document": document("Allow", "s3:*")},
        "v2": {"Document": document("Allow", "sqs:*")},
    }
    held = {"Versions": versions, "DefaultVersionId": "v2"}
    world.store.rows.insert(Row("iam:Policy", "mine", arn, ACCOUNT, document=held))
    world.add("User", "ann", AttachedPolicies=[arn])
    assert may(world, world.user("ann"), "sqs:SendMessage")
    assert not may(world, world.user("ann"), "s3:GetObject")


def test_a_boundary_that_is_gone_still_limits(world: World) -> None:
    gone = f"arn:aws:iam::{ACCOUNT}:policy/gone"
    world.add("User", "ann", AttachedPolicies=[S3_READ], PermissionsBoundary=gone)
    assert not may(world, world.user("ann"), "s3:GetObject")


def test_another_role_of_the_same_name_does_not_revive_old_sessions(world: World) -> None:
    row = world.add("Role", "Trainer", AttachedPolicies=[S3_READ])
    assert may(world, world.session("Trainer"), "s3:GetObject")
    world.store.rows.delete(row)
    world.add("Role", "Trainer", AttachedPolicies=[S3_READ], RoleId="AROAANOTHER")
    assert not may(world, world.session("Trainer"), "s3:GetObject")


def test_session_policies_narrow_a_role(world: World) -> None:
    world.add("Role", "Trainer", AttachedPolicies=["arn:aws:iam::aws:policy/AdministratorAccess"])
    inline = replace(world.session("Trainer"), session_policy=document("Allow", "s3:GetObject"))
    assert may(world, inline, "s3:GetObject")
    assert not may(world, inline, "s3:PutObject")
    managed = replace(world.session("Trainer"), session_policy_arns=(S3_READ,))
    assert may(world, managed, "s3:ListBucket")
    assert not may(world, managed, "s3:PutObject")


def test_tags_of_principal_and_session_are_condition_keys(world: World) -> None:
    own = document("Allow", "*", "arn:aws:s3:::${aws:PrincipalTag/team}/*")
    row = world.add("Role", "Trainer", Policies={"p": own})
    row.tags = [{"Key": "team", "Value": "red"}]
    world.store.rows.update(row)
    who = world.session("Trainer")
    assert may(world, who, "s3:GetObject", "arn:aws:s3:::red/x")
    tagged = replace(who, session_tags=(("team", "blue"),))
    assert may(world, tagged, "s3:GetObject", "arn:aws:s3:::blue/x")
    assert not may(world, tagged, "s3:GetObject", "arn:aws:s3:::red/x")


def test_the_time_the_request_and_the_principal_are_condition_keys(world: World) -> None:
    conditions = {
        "DateGreaterThan": {"aws:CurrentTime": "2025-12-31T23:59:59Z"},
        "NumericLessThan": {"aws:EpochTime": "1767225601"},
        "StringEquals": {"sagemaker:InstanceTypes": "ml.t3.large", "aws:username": "ann"},
        "ArnEquals": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:user/ann"},
    }
    world.add("User", "ann", Policies={"p": document("Allow", "*", Condition=conditions)})
    ann = world.user("ann")
    assert may(world, ann, "a:B", sagemaker__InstanceTypes=["ml.t3.large"])
    assert not may(world, ann, "a:B", sagemaker__InstanceTypes=["ml.p4d.24xlarge"])
    world.now += 1
    assert not may(world, ann, "a:B", sagemaker__InstanceTypes=["ml.t3.large"])


def test_pass_role_is_asked_for_the_service(world: World) -> None:
    only = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    role = f"arn:aws:iam::{ACCOUNT}:role/ClaryExecutionRole"
    world.add(
        "User", "ann", Policies={"p": document("Allow", "iam:PassRole", role, Condition=only)}
    )
    ann = world.user("ann")
    assert world.authoriser.may_pass(ann, role, "sagemaker.amazonaws.com") is True
    assert world.authoriser.may_pass(ann, role, "lambda.amazonaws.com") is False
    assert world.authoriser.may_pass(ann, role + "2", "sagemaker.amazonaws.com") is False
    with pytest.raises(AccessDeniedException, match="not authorized to perform: iam:PassRole"):
        world.authoriser.pass_role(ann, role, "lambda.amazonaws.com")


def test_a_role_trusts_the_services_of_its_trust_policy_only(world: World) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/ClaryExecutionRole"
    assert world.authoriser.role_trusts(role, "sagemaker.amazonaws.com")
    assert not world.authoriser.role_trusts(role, "ec2.amazonaws.com")
    assert not world.authoriser.role_trusts(role + "2", "sagemaker.amazonaws.com")
    assert not world.authoriser.role_trusts(
        f"arn:aws:iam::{ACCOUNT}:user/admin", "sagemaker.amazonaws.com"
    )


def test_a_resource_policy_can_let_in_a_user_without_policies(world: World) -> None:
    world.add("User", "ann")
    ann = world.user("ann")
    bucket = document("Allow", "s3:GetObject", "arn:aws:s3:::b/*", Principal={"AWS": ann.arn})
    world.authoriser.authorise(ann, "s3:GetObject", "arn:aws:s3:::b/k", dict, bucket)
    with pytest.raises(AccessDeniedException):
        world.authoriser.authorise(ann, "s3:PutObject", "arn:aws:s3:::b/k", dict, bucket)


def test_clary_itself_is_always_allowed(world: World) -> None:
    assert may(world, service_principal(ACCOUNT, "tuning"), "sagemaker:CreateTrainingJob", JOB)


def test_the_runner_may_ship_logs_and_metrics_and_nothing_else(world: World) -> None:
    row = world.store.rows.get("iam:Role", "ClaryRunner", account=ACCOUNT)
    assert row is not None
    who = session_principal(ACCOUNT, row.arn, row.document["RoleId"], "SageMaker")
    assert may(world, who, "logs:PutLogEvents")
    assert may(world, who, "cloudwatch:PutMetricData")
    assert not may(world, who, "s3:GetObject")
    assert not may(world, who, "sagemaker:CreateTrainingJob")
