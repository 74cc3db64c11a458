"""IAM's documented evaluation logic, case by case."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clary.identity.decisions import NamedPolicy, Policies, decide, denial_message
from clary.identity.patterns import Context
from clary.identity.policy_documents import PolicyKind, parse_policy
from clary.identity.principals import Principal, anonymous_principal, session_principal

ACCOUNT = "123456789012"
USER = Principal(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ann", "AIDAANN", "user", "ann")
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/Trainer"
SESSION = session_principal(ACCOUNT, ROLE_ARN, "AROATRAINER", "job")
JOB = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:training-job/mine"
OBJECT = "arn:aws:s3:::bucket/key"


def policy(*statements: dict[str, Any], kind: PolicyKind = "identity") -> NamedPolicy:
    text = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    return NamedPolicy("p", "user", parse_policy(text, kind))


def rule(effect: str, action: Any = "*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def allow(action: Any = "*", resource: Any = "*", **more: Any) -> NamedPolicy:
    return policy(rule("Allow", action, resource, **more))


def deny(action: Any = "*", resource: Any = "*", **more: Any) -> NamedPolicy:
    return policy(rule("Deny", action, resource, **more))


def to(principal: Any, effect: str = "Allow") -> NamedPolicy:
    return policy(rule(effect, Principal=principal), kind="resource")


ROOT = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
SELF = {"AWS": USER.arn}
S3 = allow("s3:*")

# (what, identity, boundary, session, resource policy, reason, layer)
TABLE: list[tuple[Any, ...]] = [
    ("nothing allows", [], None, None, None, "implicitDeny", "identity-based policy"),
    ("an identity policy allows", [S3], None, None, None, "allowed", None),
    ("deny beats allow", [S3, deny()], None, None, None, "explicitDeny", "identity-based policy"),
    ("order does not matter", [deny(), S3], None, None, None, "explicitDeny", None),
    ("another action is allowed", [allow("sqs:*")], None, None, None, "implicitDeny", None),
    ("a boundary alone allows nothing", [], S3, None, None, "implicitDeny", None),
    ("a boundary agrees", [S3], S3, None, None, "allowed", None),
    ("a boundary is silent", [S3], allow("sqs:*"), None, None, "implicitDeny", "permissions boundary"),
    ("a boundary denies", [S3], deny(), None, None, "explicitDeny", "permissions boundary"),
    ("a session policy agrees", [S3], None, [S3], None, "allowed", None),
    ("a session policy is silent", [S3], None, [allow("sqs:*")], None, "implicitDeny", "session policy"),
    ("a session policy alone allows nothing", [], None, [S3], None, "implicitDeny", None),
    ("a session policy denies", [S3], None, [deny()], None, "explicitDeny", "session policy"),
    ("two session policies add up", [S3], None, [allow("sqs:*"), S3], None, "allowed", None),
    ("an empty session limits all", [S3], None, [], None, "implicitDeny", "session policy"),
    ("the bucket names the user", [], None, None, to(SELF), "allowed", None),
    ("the bucket names another", [], None, None, to({"AWS": USER.arn + "e"}), "implicitDeny", None),
    ("the bucket names everyone", [], None, None, to("*"), "allowed", None),
    ("the bucket names everyone of AWS", [], None, None, to({"AWS": "*"}), "allowed", None),
    ("the bucket names the account", [], None, None, to(ROOT), "implicitDeny", None),
    ("the account and the user agree", [S3], None, None, to(ROOT), "allowed", None),
    ("the bucket denies the account", [S3], None, None, to(ROOT, "Deny"), "explicitDeny", "resource-based policy"),
    ("the bucket denies the user", [S3], None, None, to(SELF, "Deny"), "explicitDeny", "resource-based policy"),
    ("the bucket denies another", [S3], None, None, to({"AWS": USER.arn + "e"}, "Deny"), "allowed", None),
    ("an own grant passes a boundary", [], allow("sqs:*"), None, to(SELF), "allowed", None),
    ("a grant to all does not", [], allow("sqs:*"), None, to("*"), "implicitDeny", "permissions boundary"),
    ("identity denies what the bucket allows", [deny()], None, None, to(SELF), "explicitDeny", None),
]  # fmt: skip


@pytest.mark.parametrize(("identity", "boundary", "session", "resource", "reason", "layer"),
                         [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])  # fmt: skip
def test_policies_combine_as_documented(
    identity: list[NamedPolicy],
    boundary: NamedPolicy | None,
    session: list[NamedPolicy] | None,
    resource: NamedPolicy | None,
    reason: str,
    layer: str | None,
) -> None:
    limits = None if session is None else tuple(session)
    policies = Policies(tuple(identity), boundary, limits)
    decision = decide(USER, "s3:GetObject", OBJECT, Context({}), policies, resource)
    assert decision.reason == reason
    assert decision.allowed == (reason == "allowed")
    if layer is not None:
        assert decision.layer == layer


def test_a_grant_to_a_role_is_limited_by_its_session_but_one_to_the_session_is_not() -> None:
    limited = Policies((), None, (allow("sqs:*"),))
    by_role = to({"AWS": ROLE_ARN})
    by_session = to({"AWS": SESSION.arn})
    assert not decide(SESSION, "s3:GetObject", OBJECT, Context({}), limited, by_role)
    assert decide(SESSION, "s3:GetObject", OBJECT, Context({}), limited, by_session)
    assert decide(SESSION, "s3:GetObject", OBJECT, Context({}), Policies(), by_role)


def test_everyone_includes_the_anonymous_but_the_account_does_not() -> None:
    nobody = anonymous_principal()
    assert decide(nobody, "s3:GetObject", OBJECT, Context({}), Policies(), to("*"))
    decision = decide(nobody, "s3:GetObject", OBJECT, Context({}), Policies(), to(ROOT))
    assert decision.reason == "implicitDeny"


def test_not_principal_denies_everyone_else() -> None:
    others = {"Effect": "Deny", "NotPrincipal": SELF, "Action": "*", "Resource": "*"}
    resource = policy(others, kind="resource")
    assert decide(USER, "s3:GetObject", OBJECT, Context({}), Policies((S3,)), resource)
    decision = decide(SESSION, "s3:GetObject", OBJECT, Context({}), Policies((S3,)), resource)
    assert decision.reason == "explicitDeny"


@pytest.mark.parametrize(
    ("principal", "identity", "allowed"),
    [
        (SELF, [], True),
        ({"AWS": "*"}, [], True),
        (ROOT, [], False),
        (ROOT, [allow("sts:AssumeRole")], True),
        ({"AWS": ACCOUNT}, [allow("sts:*", ROLE_ARN)], True),
        (ROOT, [allow("sts:AssumeRole", ROLE_ARN + "2")], False),
        ({"Service": "sagemaker.amazonaws.com"}, [allow()], False),
        ({"AWS": ROLE_ARN}, [allow()], False),
    ],
)
def test_a_trust_policy_must_consent(
    principal: Any, identity: list[NamedPolicy], allowed: bool
) -> None:
    trust = policy(
        {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}, kind="trust"
    )
    decision = decide(
        USER, "sts:AssumeRole", ROLE_ARN, Context({}), Policies(tuple(identity)), trust,
        consent_required=True,
    )  # fmt: skip
    assert decision.allowed is allowed


@pytest.mark.parametrize(
    ("action", "asked", "allowed"),
    [
        ("sagemaker:CreateModel", "sagemaker:CreateModel", True),
        ("SAGEMAKER:createmodel", "sagemaker:CreateModel", True),
        ("sagemaker:Create*", "sagemaker:CreateModel", True),
        ("sagemaker:*Model", "sagemaker:CreateModel", True),
        ("sagemaker:CreateMode?", "sagemaker:CreateModel", True),
        ("sagemaker:CreateModel?", "sagemaker:CreateModel", False),
        ("sagemaker:Create", "sagemaker:CreateModel", False),
        ("s3:*", "sagemaker:CreateModel", False),
        ("*", "sagemaker:CreateModel", True),
        (["s3:Get*", "sagemaker:Describe*"], "sagemaker:DescribeModel", True),
    ],
)
def test_actions_match_by_name_whatever_their_case(action: Any, asked: str, allowed: bool) -> None:
    decision = decide(USER, asked, "*", Context({}), Policies((allow(action),)))
    assert decision.allowed is allowed


@pytest.mark.parametrize(
    ("resource", "asked", "allowed"),
    [
        (OBJECT, OBJECT, True),
        ("arn:aws:s3:::bucket/*", OBJECT, True),
        ("arn:aws:s3:::bucket*", OBJECT, True),
        ("arn:aws:s3:::bucket", OBJECT, False),
        ("arn:aws:s3:::BUCKET/*", OBJECT, False),
        ("arn:aws:s3:::bucket/k?y", OBJECT, True),
        ("arn:aws:s3:::bucket/k??y", OBJECT, False),
        (JOB, JOB, True),
        (JOB.replace("mine", "MINE"), JOB, True),
        (JOB.replace("mine", "*"), JOB, True),
        (JOB.replace("us-east-1", "*"), JOB, True),
        (JOB.replace("us-east-1", "eu-west-1"), JOB, False),
        ("*", JOB, True),
        ("arn:aws:s3:::${aws:username}/*", "arn:aws:s3:::ann/x", True),
        ("arn:aws:s3:::${aws:username}/*", "arn:aws:s3:::bob/x", False),
        ("arn:aws:s3:::${aws:nothing}/*", "arn:aws:s3:::/x", False),
        ("arn:aws:s3:::${aws:PrincipalTag/team, 'none'}/*", "arn:aws:s3:::none/x", True),
        ("arn:aws:s3:::bucket/${*}", "arn:aws:s3:::bucket/*", True),
        ("arn:aws:s3:::bucket/${*}", OBJECT, False),
        ("arn:aws:s3:::${tricky}/x", "arn:aws:s3:::bob/x", False),
        ("arn:aws:s3:::${tricky}/x", "arn:aws:s3:::*/x", True),
    ],
)
def test_resources_match_by_arn(resource: str, asked: str, allowed: bool) -> None:
    context = Context({"aws:username": "ann", "tricky": "*"})
    decision = decide(USER, "a:B", asked, context, Policies((allow("*", resource),)))
    assert decision.allowed is allowed


def test_variables_mean_themselves_in_the_old_policy_version() -> None:
    statement = rule("Allow", resource="arn:aws:s3:::${aws:username}/*")
    old = json.dumps({"Version": "2008-10-17", "Statement": statement})
    policies = Policies((NamedPolicy("old", "user", parse_policy(old)),))
    context = Context({"aws:username": "ann"})
    assert not decide(USER, "a:B", "arn:aws:s3:::ann/x", context, policies)
    assert decide(USER, "a:B", "arn:aws:s3:::${aws:username}/x", context, policies)


def test_not_action_and_not_resource_mean_all_others() -> None:
    others = {"Effect": "Allow", "NotAction": ["iam:*", "s3:Get*"], "Resource": "*"}
    policies = Policies((policy(others),))
    assert not decide(USER, "iam:GetRole", "*", Context({}), policies)
    assert not decide(USER, "s3:GetObject", "*", Context({}), policies)
    assert decide(USER, "s3:PutObject", "*", Context({}), policies)
    elsewhere = {"Effect": "Deny", "Action": "*", "NotResource": "arn:aws:s3:::bucket/*"}
    policies = Policies((S3, policy(elsewhere)))
    assert decide(USER, "s3:GetObject", OBJECT, Context({}), policies)
    assert not decide(USER, "s3:GetObject", "arn:aws:s3:::other/key", Context({}), policies)


def test_a_decision_names_the_statements_that_made_it() -> None:
    named = policy(rule("Allow", "s3:Put*"), rule("Allow", "s3:Get*"), rule("Allow", "s3:*"))
    decision = decide(USER, "s3:GetObject", OBJECT, Context({}), Policies((named,)))
    assert [match.statement for match in decision.matched] == [2, 3]
    denied = policy(rule("Allow"), rule("Deny", "s3:Get*"))
    decision = decide(USER, "s3:GetObject", OBJECT, Context({}), Policies((denied,)))
    assert [(match.statement, match.allow) for match in decision.matched] == [(2, False)]


def test_denials_are_worded_as_aws_words_them() -> None:
    action = "sagemaker:CreateModel"
    silent = decide(USER, action, JOB, Context({}), Policies())
    assert denial_message(USER, action, JOB, silent) == (
        f"User: {USER.arn} is not authorized to perform: {action} on resource: {JOB} because no "
        f"identity-based policy allows the {action} action"
    )
    said = decide(USER, action, JOB, Context({}), Policies((deny(),)))
    assert denial_message(USER, action, JOB, said).endswith(
        f"on resource: {JOB} with an explicit deny in an identity-based policy"
    )
    bound = decide(USER, action, JOB, Context({}), Policies((allow(),), S3))
    assert denial_message(USER, action, JOB, bound).endswith(
        f"because no permissions boundary allows the {action} action"
    )
