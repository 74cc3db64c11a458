"""IAM as Terraform, the SDKs and administrators use it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import botocore.session
import pytest
from botocore.model import OperationModel, Shape

from clary.companions import (
    iam_access_keys,
    iam_account,
    iam_boundaries,
    iam_entity_policies,
    iam_groups,
    iam_instance_profiles,
    iam_policies,
    iam_roles,
    iam_simulation,
    iam_users,
)
from clary.engine.call import Call
from clary.identity.first_start import prepare
from clary.identity.principals import Principal, session_principal
from clary.model.errors import ApiError
from clary.settings import Settings
from clary.store.database import Store

ACCOUNT = "123456789012"
NOW = 1_767_225_600.25
ADMIN = Principal(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/admin", "AIDAADMIN", "user", "admin")
MODEL = botocore.session.get_session().get_service_model("iam")
MODULES = [
    iam_access_keys,
    iam_account,
    iam_boundaries,
    iam_entity_policies,
    iam_groups,
    iam_instance_profiles,
    iam_policies,
    iam_roles,
    iam_simulation,
    iam_users,
]
HANDLERS: dict[str, Callable[[Call], Any]] = {
    member.answers[1]: member
    for module in MODULES
    for member in vars(module).values()
    if hasattr(member, "answers")
}
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "sagemaker.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
)
S3_FULL = "arn:aws:iam::aws:policy/AmazonS3FullAccess"


def document(action: str = "s3:*", resource: str = "*", effect: str = "Allow") -> str:
    statement = {"Effect": effect, "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def assert_shaped(value: Any, shape: Shape, path: str = "") -> None:
    """The answer uses the members and types of the output shape, and has the required ones."""
    match shape.type_name:
        case "structure":
            assert set(value) <= set(shape.members), (path, set(value) - set(shape.members))
            assert set(shape.required_members) <= set(value), path
            for name, inner in value.items():
                assert_shaped(inner, shape.members[name], f"{path}.{name}")
        case "list":
            assert isinstance(value, list), path
            for inner in value:
                assert_shaped(inner, shape.member, path)
        case "map":
            assert isinstance(value, dict), path
        case "string":
            assert isinstance(value, str), path
        case "boolean":
            assert isinstance(value, bool), path
        case "integer" | "long" | "timestamp":
            assert isinstance(value, (int, float)), path
        case other:
            raise AssertionError(f"{path}: {other}")


class Iam:
    """Calls handlers as the gateway does, and holds their answers against the model."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.store = Store.open(f"sqlite:///{home}/clary.db")
        prepare(self.store, self.settings, lambda: NOW)
        self.principal = ADMIN

    def __call__(self, name: str, **asked: Any) -> dict[str, Any]:
        parts = SimpleNamespace(settings=self.settings, store=self.store, clock=lambda: NOW)
        call = Call("iam", name, asked, ACCOUNT, "", self.principal, "id", NOW, parts)  # type: ignore[arg-type]
        answer = HANDLERS[name](call) or {}
        operation: OperationModel = MODEL.operation_model(name)
        if operation.output_shape is None:
            assert answer == {}, name
        else:
            assert_shaped(answer, operation.output_shape, name)
        return answer

    def fails(self, name: str, **asked: Any) -> tuple[str, int, str]:
        with pytest.raises(ApiError) as caught:
            self(name, **asked)
        return caught.value.code, caught.value.status, caught.value.message

    def role(self, name: str = "Trainer", **more: Any) -> dict[str, Any]:
        return self("CreateRole", RoleName=name, AssumeRolePolicyDocument=TRUST, **more)["Role"]


@pytest.fixture
def iam(tmp_path: Path) -> Iterator[Iam]:
    iam = Iam(tmp_path)
    yield iam
    iam.store.close()


def test_every_handler_answers_an_operation_of_the_model() -> None:
    assert set(HANDLERS) <= set(MODEL.operation_names)
    assert len(HANDLERS) > 80


def test_a_role_is_created_and_read_back(iam: Iam) -> None:
    tags = [{"Key": "team", "Value": "red"}]
    made = iam.role(Path="/service-role/", Description="trains", Tags=tags, MaxSessionDuration=7200)
    assert made["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/service-role/Trainer"
    assert made["RoleId"].startswith("AROA") and len(made["RoleId"]) == 21
    role = iam("GetRole", RoleName="Trainer")["Role"]
    assert role == made
    assert json.loads(unquote(role["AssumeRolePolicyDocument"])) == json.loads(TRUST)
    assert (role["Description"], role["MaxSessionDuration"]) == ("trains", 7200)
    assert (role["Tags"], role["CreateDate"]) == (tags, 1_767_225_600.0)
    assert iam("ListRoles", PathPrefix="/service-role/")["Roles"][0]["RoleName"] == "Trainer"


def test_a_missing_role_is_told_in_iams_words(iam: Iam) -> None:
    expected = ("NoSuchEntity", 404, "The role with name Nobody cannot be found.")
    for name in ("GetRole", "DeleteRole", "ListRolePolicies", "ListAttachedRolePolicies"):
        assert iam.fails(name, RoleName="Nobody") == expected


def test_a_taken_name_is_refused_whatever_its_case(iam: Iam) -> None:
    iam.role()
    for name in ("Trainer", "TRAINER"):
        code, status, message = iam.fails(
            "CreateRole", RoleName=name, AssumeRolePolicyDocument=TRUST
        )
        assert (code, status) == ("EntityAlreadyExists", 409)
        assert message == f"Role with name {name} already exists."


def test_a_malformed_trust_policy_is_refused(iam: Iam) -> None:
    code, status, _ = iam.fails("CreateRole", RoleName="R", AssumeRolePolicyDocument=document())
    assert (code, status) == ("MalformedPolicyDocument", 400)
    iam.role()
    iam("UpdateAssumeRolePolicy", RoleName="Trainer", PolicyDocument=TRUST.replace("sage", "x"))
    role = iam("GetRole", RoleName="Trainer")["Role"]
    assert "xmaker.amazonaws.com" in unquote(role["AssumeRolePolicyDocument"])


def test_a_role_in_use_cannot_be_deleted(iam: Iam) -> None:
    iam.role()
    iam("AttachRolePolicy", RoleName="Trainer", PolicyArn=S3_FULL)
    iam("PutRolePolicy", RoleName="Trainer", PolicyName="p", PolicyDocument=document())
    iam("CreateInstanceProfile", InstanceProfileName="box")
    iam("AddRoleToInstanceProfile", InstanceProfileName="box", RoleName="Trainer")
    steps: list[tuple[str, str, dict[str, str]]] = [
        ("must detach all policies first.", "DetachRolePolicy", {"PolicyArn": S3_FULL}),
        ("must delete policies first.", "DeleteRolePolicy", {"PolicyName": "p"}),
        (
            "must remove roles from instance profile first.",
            "RemoveRoleFromInstanceProfile",
            {"InstanceProfileName": "box"},
        ),
    ]
    for remedy, operation, more in steps:
        expected = ("DeleteConflict", 409, f"Cannot delete entity, {remedy}")
        assert iam.fails("DeleteRole", RoleName="Trainer") == expected
        iam(operation, RoleName="Trainer", **more)
    assert iam("ListInstanceProfilesForRole", RoleName="Trainer")["InstanceProfiles"] == []
    iam("DeleteRole", RoleName="Trainer")
    assert iam.fails("GetRole", RoleName="Trainer")[0] == "NoSuchEntity"


def test_inline_policies_are_put_read_listed_and_deleted(iam: Iam) -> None:
    iam.role()
    iam("PutRolePolicy", RoleName="Trainer", PolicyName="b", PolicyDocument=document("sqs:*"))
    iam("PutRolePolicy", RoleName="Trainer", PolicyName="a", PolicyDocument=document())
    assert iam("ListRolePolicies", RoleName="Trainer")["PolicyNames"] == ["a", "b"]
    got = iam("GetRolePolicy", RoleName="Trainer", PolicyName="b")
    assert unquote(got["PolicyDocument"]) == document("sqs:*")
    iam("DeleteRolePolicy", RoleName="Trainer", PolicyName="b")
    expected = ("NoSuchEntity", 404, "The role policy with name b cannot be found.")
    assert iam.fails("GetRolePolicy", RoleName="Trainer", PolicyName="b") == expected
    assert iam.fails("DeleteRolePolicy", RoleName="Trainer", PolicyName="b") == expected
    long = document(resource="arn:aws:s3:::" + "x" * 11_000)
    code, status, message = iam.fails(
        "PutRolePolicy", RoleName="Trainer", PolicyName="long", PolicyDocument=long
    )
    assert (code, status) == ("LimitExceeded", 409)
    assert message == "Maximum policy size of 10240 bytes exceeded for role Trainer"


def test_managed_policies_are_attached_once_and_listed(iam: Iam) -> None:
    iam.role()
    for _ in range(2):
        iam("AttachRolePolicy", RoleName="Trainer", PolicyArn=S3_FULL)
    listed = iam("ListAttachedRolePolicies", RoleName="Trainer")
    assert listed["AttachedPolicies"] == [
        {"PolicyName": "AmazonS3FullAccess", "PolicyArn": S3_FULL}
    ]
    missing = f"arn:aws:iam::{ACCOUNT}:policy/gone"
    expected = ("NoSuchEntity", 404, f"Policy {missing} does not exist or is not attachable.")
    assert iam.fails("AttachRolePolicy", RoleName="Trainer", PolicyArn=missing) == expected
    iam("DetachRolePolicy", RoleName="Trainer", PolicyArn=S3_FULL)
    code = iam.fails("DetachRolePolicy", RoleName="Trainer", PolicyArn=S3_FULL)[0]
    assert code == "NoSuchEntity"


def test_a_policy_goes_through_its_versions(iam: Iam) -> None:
    made = iam("CreatePolicy", PolicyName="mine", PolicyDocument=document(), Path="/a/")["Policy"]
    arn = made["Arn"]
    assert arn == f"arn:aws:iam::{ACCOUNT}:policy/a/mine"
    code, status, _ = iam.fails("CreatePolicy", PolicyName="mine", PolicyDocument=document())
    assert (code, status) == ("EntityAlreadyExists", 409)
    for number in range(2, 6):
        made = iam("CreatePolicyVersion", PolicyArn=arn, PolicyDocument=document("sqs:*"))
        assert made["PolicyVersion"]["VersionId"] == f"v{number}"
        assert made["PolicyVersion"]["IsDefaultVersion"] is False
    full = iam.fails("CreatePolicyVersion", PolicyArn=arn, PolicyDocument=document())
    assert full[:2] == ("LimitExceeded", 409)
    assert iam.fails("DeletePolicyVersion", PolicyArn=arn, VersionId="v1")[0] == "DeleteConflict"
    iam("SetDefaultPolicyVersion", PolicyArn=arn, VersionId="v5")
    assert iam("GetPolicy", PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v5"
    iam("DeletePolicyVersion", PolicyArn=arn, VersionId="v1")
    listed = iam("ListPolicyVersions", PolicyArn=arn, MaxItems=3)
    assert [one["VersionId"] for one in listed["Versions"]] == ["v5", "v4", "v3"]
    rest = iam("ListPolicyVersions", PolicyArn=arn, Marker=listed["Marker"])
    assert [one["VersionId"] for one in rest["Versions"]] == ["v2"]
    version = iam("GetPolicyVersion", PolicyArn=arn, VersionId="v5")["PolicyVersion"]
    assert unquote(version["Document"]) == document("sqs:*")
    assert iam.fails("GetPolicyVersion", PolicyArn=arn, VersionId="v1")[0] == "NoSuchEntity"
    assert iam.fails("DeletePolicy", PolicyArn=arn)[0] == "DeleteConflict"


def test_an_attached_policy_is_counted_and_kept(iam: Iam) -> None:
    arn = iam("CreatePolicy", PolicyName="mine", PolicyDocument=document())["Policy"]["Arn"]
    iam.role()
    iam("AttachRolePolicy", RoleName="Trainer", PolicyArn=arn)
    assert iam("GetPolicy", PolicyArn=arn)["Policy"]["AttachmentCount"] == 1
    entities = iam("ListEntitiesForPolicy", PolicyArn=arn)
    assert [role["RoleName"] for role in entities["PolicyRoles"]] == ["Trainer"]
    expected = ("DeleteConflict", 409, "Cannot delete a policy attached to entities.")
    assert iam.fails("DeletePolicy", PolicyArn=arn) == expected
    iam("DetachRolePolicy", RoleName="Trainer", PolicyArn=arn)
    iam("DeletePolicy", PolicyArn=arn)
    assert iam.fails("GetPolicy", PolicyArn=arn) == (
        "NoSuchEntity",
        404,
        f"Policy {arn} was not found.",
    )


def test_policies_of_aws_can_be_read_but_not_changed(iam: Iam) -> None:
    got = iam("GetPolicy", PolicyArn=S3_FULL)["Policy"]
    assert (got["PolicyName"], got["DefaultVersionId"]) == ("AmazonS3FullAccess", "v1")
    assert iam("GetPolicyVersion", PolicyArn=S3_FULL, VersionId="v1")
    assert iam.fails("DeletePolicy", PolicyArn=S3_FULL)[:2] == ("AccessDenied", 403)
    local = iam("ListPolicies", Scope="Local")
    assert local["Policies"] == []
    names = {policy["PolicyName"] for policy in iam("ListPolicies", Scope="AWS")["Policies"]}
    assert {"AdministratorAccess", "AmazonSageMakerFullAccess"} <= names
    attached = iam("ListPolicies", OnlyAttached=True)["Policies"]
    assert [policy["PolicyName"] for policy in attached] == ["AdministratorAccess"]


def test_lists_come_in_pages(iam: Iam) -> None:
    for number in range(5):
        iam("CreateUser", UserName=f"u{number}")
    names: list[str] = []
    marker: dict[str, str] = {}
    while True:
        answer = iam("ListUsers", MaxItems=2, **marker)
        names += [user["UserName"] for user in answer["Users"]]
        if not answer["IsTruncated"]:
            break
        marker = {"Marker": answer["Marker"]}
    assert names == ["admin", "u0", "u1", "u2", "u3", "u4"]
    assert iam.fails("ListUsers", Marker="!!")[:2] == ("ValidationError", 400)


def test_a_user_reads_itself_and_a_role_must_say_whom(iam: Iam) -> None:
    assert iam("GetUser")["User"]["UserName"] == "admin"
    iam.principal = session_principal(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:role/R", "AROA", "s")
    expected = "Must specify userName when calling with non-User credentials"
    assert iam.fails("GetUser") == ("ValidationError", 400, expected)


def test_access_keys_are_made_twice_switched_and_deleted(iam: Iam) -> None:
    iam("CreateUser", UserName="ann")
    first = iam("CreateAccessKey", UserName="ann")["AccessKey"]
    assert first["AccessKeyId"].startswith("AKIA") and len(first["SecretAccessKey"]) == 40
    second = iam("CreateAccessKey", UserName="ann")["AccessKey"]
    assert iam.fails("CreateAccessKey", UserName="ann")[:2] == ("LimitExceeded", 409)
    key = {"UserName": "ann", "AccessKeyId": first["AccessKeyId"]}
    iam("UpdateAccessKey", **key, Status="Inactive")
    listed = iam("ListAccessKeys", UserName="ann")["AccessKeyMetadata"]
    assert {one["AccessKeyId"]: one["Status"] for one in listed} == {
        first["AccessKeyId"]: "Inactive",
        second["AccessKeyId"]: "Active",
    }
    assert all("SecretAccessKey" not in one for one in listed)
    used = iam("GetAccessKeyLastUsed", AccessKeyId=first["AccessKeyId"])
    assert used["UserName"] == "ann"
    assert used["AccessKeyLastUsed"] == {"ServiceName": "N/A", "Region": "N/A"}
    assert iam.fails("DeleteUser", UserName="ann")[0] == "DeleteConflict"
    for one in listed:
        iam("DeleteAccessKey", UserName="ann", AccessKeyId=one["AccessKeyId"])
    iam("DeleteUser", UserName="ann")
    missing = iam.fails("DeleteAccessKey", **key)
    assert missing[:2] == ("NoSuchEntity", 404)


def test_groups_hold_users_and_policies(iam: Iam) -> None:
    iam("CreateGroup", GroupName="team")
    iam("CreateUser", UserName="ann")
    for _ in range(2):
        iam("AddUserToGroup", GroupName="team", UserName="ann")
    iam("AttachGroupPolicy", GroupName="team", PolicyArn=S3_FULL)
    iam("PutGroupPolicy", GroupName="team", PolicyName="p", PolicyDocument=document())
    assert [user["UserName"] for user in iam("GetGroup", GroupName="team")["Users"]] == ["ann"]
    groups = iam("ListGroupsForUser", UserName="ann")["Groups"]
    assert [group["GroupName"] for group in groups] == ["team"]
    assert iam.fails("DeleteGroup", GroupName="team")[0] == "DeleteConflict"
    assert iam.fails("DeleteUser", UserName="ann")[2].endswith("remove users from group first.")
    iam("RemoveUserFromGroup", GroupName="team", UserName="ann")
    iam("DetachGroupPolicy", GroupName="team", PolicyArn=S3_FULL)
    iam("DeleteGroupPolicy", GroupName="team", PolicyName="p")
    iam("DeleteGroup", GroupName="team")
    assert iam.fails("GetGroup", GroupName="team")[0] == "NoSuchEntity"


def test_tags_are_added_listed_and_removed(iam: Iam) -> None:
    iam.role()
    iam("TagRole", RoleName="Trainer", Tags=[{"Key": "b", "Value": "1"}, {"Key": "a", "Value": ""}])
    iam("TagRole", RoleName="Trainer", Tags=[{"Key": "B", "Value": "2"}])
    listed = iam("ListRoleTags", RoleName="Trainer")["Tags"]
    assert sorted((tag["Key"], tag["Value"]) for tag in listed) == [("B", "2"), ("a", "")]
    iam("UntagRole", RoleName="Trainer", TagKeys=["b", "absent"])
    assert iam("ListRoleTags", RoleName="Trainer")["Tags"] == [{"Key": "a", "Value": ""}]
    twice = [{"Key": "x", "Value": "1"}, {"Key": "X", "Value": "2"}]
    assert iam.fails("TagRole", RoleName="Trainer", Tags=twice)[0] == "InvalidInput"
    many = [{"Key": f"k{n}", "Value": ""} for n in range(50)]
    assert iam.fails("TagRole", RoleName="Trainer", Tags=many)[:2] == ("LimitExceeded", 409)


def test_permissions_boundaries_are_set_and_removed(iam: Iam) -> None:
    iam.role(PermissionsBoundary=S3_FULL)
    assert iam("GetRole", RoleName="Trainer")["Role"]["PermissionsBoundary"] == {
        "PermissionsBoundaryType": "PermissionsBoundaryPolicy",
        "PermissionsBoundaryArn": S3_FULL,
    }
    assert iam("GetPolicy", PolicyArn=S3_FULL)["Policy"]["PermissionsBoundaryUsageCount"] == 1
    iam("DeleteRolePermissionsBoundary", RoleName="Trainer")
    assert "PermissionsBoundary" not in iam("GetRole", RoleName="Trainer")["Role"]
    gone = f"arn:aws:iam::{ACCOUNT}:policy/gone"
    code = iam.fails("PutRolePermissionsBoundary", RoleName="Trainer", PermissionsBoundary=gone)[0]
    assert code == "NoSuchEntity"


def test_a_service_linked_role_is_created_once(iam: Iam) -> None:
    asked = {"AWSServiceName": "sagemaker.application-autoscaling.amazonaws.com"}
    role = iam("CreateServiceLinkedRole", **asked)["Role"]
    name = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    assert role["RoleName"] == name
    assert role["Path"] == f"/aws-service-role/{asked['AWSServiceName']}/"
    assert iam.fails("CreateServiceLinkedRole", **asked)[0] == "InvalidInput"
    task = iam("DeleteServiceLinkedRole", RoleName=name)["DeletionTaskId"]
    status = iam("GetServiceLinkedRoleDeletionStatus", DeletionTaskId=task)
    assert status == {"Status": "SUCCEEDED"}


def decisions(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    keys = ("EvalActionName", "EvalResourceName", "EvalDecision")
    return [tuple(result[key] for key in keys) for result in answer["EvaluationResults"]]  # type: ignore[misc]


def test_the_policies_of_a_role_are_simulated_by_the_deciding_engine(iam: Iam) -> None:
    arn = iam.role()["Arn"]
    inline = document("s3:GetObject", "arn:aws:s3:::b/*")
    iam("PutRolePolicy", RoleName="Trainer", PolicyName="p", PolicyDocument=inline)
    answer = iam(
        "SimulatePrincipalPolicy",
        PolicySourceArn=arn,
        ActionNames=["s3:GetObject", "s3:PutObject"],
        ResourceArns=["arn:aws:s3:::b/k", "arn:aws:s3:::c/k"],
    )
    assert decisions(answer) == [
        ("s3:GetObject", "arn:aws:s3:::b/k", "allowed"),
        ("s3:GetObject", "arn:aws:s3:::c/k", "implicitDeny"),
        ("s3:PutObject", "arn:aws:s3:::b/k", "implicitDeny"),
        ("s3:PutObject", "arn:aws:s3:::c/k", "implicitDeny"),
    ]
    matched = answer["EvaluationResults"][0]["MatchedStatements"]
    assert matched == [{"SourcePolicyId": "p", "SourcePolicyType": "role"}]
    assert answer["IsTruncated"] is False


def test_the_execution_role_may_everything_as_the_sdk_checks(iam: Iam) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:role/ClaryExecutionRole"
    answer = iam(
        "SimulatePrincipalPolicy",
        PolicySourceArn=arn,
        ActionNames=["sagemaker:CreateTrainingJob", "iam:PassRole"],
    )
    assert {decision for _, _, decision in decisions(answer)} == {"allowed"}
    assert iam.fails(
        "SimulatePrincipalPolicy", PolicySourceArn=arn + "2", ActionNames=["s3:GetObject"]
    )[:2] == ("NoSuchEntity", 404)
    assert iam.fails(
        "SimulatePrincipalPolicy", PolicySourceArn="arn:aws:s3:::b", ActionNames=["s3:GetObject"]
    )[:2] == ("InvalidInput", 400)


def test_custom_policies_are_simulated_with_context_and_boundary(iam: Iam) -> None:
    statement = {
        "Effect": "Allow",
        "Action": "sagemaker:*",
        "Resource": "*",
        "Condition": {"ForAllValues:StringEquals": {"sagemaker:InstanceTypes": ["ml.t3.large"]}},
    }
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})

    def decision(instance_type: str, *boundary: str, deny: bool = False) -> str:
        policies = [text] + ([document("sagemaker:*", effect="Deny")] if deny else [])
        entry = {
            "ContextKeyName": "sagemaker:InstanceTypes",
            "ContextKeyValues": [instance_type],
            "ContextKeyType": "stringList",
        }
        answer = iam(
            "SimulateCustomPolicy",
            PolicyInputList=policies,
            ActionNames=["sagemaker:CreateTrainingJob"],
            ContextEntries=[entry],
            PermissionsBoundaryPolicyInputList=list(boundary),
        )
        return answer["EvaluationResults"][0]["EvalDecision"]

    assert decision("ml.t3.large") == "allowed"
    assert decision("ml.p4d.24xlarge") == "implicitDeny"
    assert decision("ml.t3.large", document("s3:*")) == "implicitDeny"
    assert decision("ml.t3.large", deny=True) == "explicitDeny"
    assert iam.fails("SimulateCustomPolicy", PolicyInputList=["x"], ActionNames=["s3:GetObject"])[
        :2
    ] == ("InvalidInput", 400)


def test_the_account_is_summed_up(iam: Iam) -> None:
    iam.role()
    summary = iam("GetAccountSummary")["SummaryMap"]
    assert (summary["Users"], summary["Roles"], summary["Groups"]) == (1, 3, 0)
    iam("CreatePolicy", PolicyName="mine", PolicyDocument=document())
    details = iam("GetAccountAuthorizationDetails")
    assert [user["UserName"] for user in details["UserDetailList"]] == ["admin"]
    assert len(details["RoleDetailList"]) == 3
    assert details["Policies"][0]["PolicyVersionList"][0]["IsDefaultVersion"] is True
    roles = iam("GetAccountAuthorizationDetails", Filter=["Role"])
    assert (len(roles["RoleDetailList"]), roles["UserDetailList"]) == (3, [])
    iam("CreateAccountAlias", AccountAlias="lab")
    assert iam("ListAccountAliases")["AccountAliases"] == ["lab"]
