"""Inline and attached policies of IAM roles, users and groups: the same seven operations for each."""

from __future__ import annotations

from typing import Any

from clary.companions.iam_entities import (
    GROUP,
    ROLE,
    USER,
    Noun,
    change,
    find,
    limit_exceeded,
    no_such_entity,
    page,
    url_encoded,
)
from clary.companions.iam_policies import attachable, find_policy
from clary.engine.call import Call, operation
from clary.identity.policy_documents import parse_policy
from clary.store.rows import Row

ATTACHED_MAX = 20


def put_inline(call: Call, noun: Noun) -> dict[str, Any]:
    name, text = call.input["PolicyName"], call.input["PolicyDocument"]
    parse_policy(text, "identity")

    def edit(row: Row) -> None:
        policies = row.document["Policies"] | {name: text}
        # White space does not count towards the quota.
        if sum(len("".join(one.split())) for one in policies.values()) > noun.inline_characters_max:
            raise limit_exceeded(
                f"Maximum policy size of {noun.inline_characters_max} bytes exceeded for "
                f"{noun.word} {row.name}"
            )
        row.document["Policies"] = policies

    change(call, noun, call.input[noun.member], edit)
    return {}


def _missing(noun: Noun, name: str) -> Exception:
    return no_such_entity(f"The {noun.word} policy with name {name} cannot be found.")


def get_inline(call: Call, noun: Noun) -> dict[str, Any]:
    row, name = find(call, noun, call.input[noun.member]), call.input["PolicyName"]
    text = row.document["Policies"].get(name)
    if text is None:
        raise _missing(noun, name)
    return {noun.member: row.name, "PolicyName": name, "PolicyDocument": url_encoded(text)}


def delete_inline(call: Call, noun: Noun) -> dict[str, Any]:
    name = call.input["PolicyName"]

    def edit(row: Row) -> None:
        if row.document["Policies"].pop(name, None) is None:
            raise _missing(noun, name)

    change(call, noun, call.input[noun.member], edit)
    return {}


def list_inline(call: Call, noun: Noun) -> dict[str, Any]:
    row = find(call, noun, call.input[noun.member])
    return page(call, "PolicyNames", sorted(row.document["Policies"]))


def attach(call: Call, noun: Noun) -> dict[str, Any]:
    arn = call.input["PolicyArn"]
    find(call, noun, call.input[noun.member])
    attachable(call, arn)

    def edit(row: Row) -> None:
        attached = row.document["AttachedPolicies"]
        if arn in attached:
            return
        if len(attached) >= ATTACHED_MAX:
            raise limit_exceeded(
                f"Cannot exceed quota for PoliciesPer{noun.word.capitalize()}: {ATTACHED_MAX}"
            )
        attached.append(arn)

    change(call, noun, call.input[noun.member], edit)
    return {}


def detach(call: Call, noun: Noun) -> dict[str, Any]:
    arn = call.input["PolicyArn"]

    def edit(row: Row) -> None:
        if arn not in row.document["AttachedPolicies"]:
            raise no_such_entity(f"Policy {arn} was not found.")
        row.document["AttachedPolicies"].remove(arn)

    change(call, noun, call.input[noun.member], edit)
    return {}


def list_attached(call: Call, noun: Noun) -> dict[str, Any]:
    row = find(call, noun, call.input[noun.member])
    prefix = call.input.get("PathPrefix") or "/"
    attached = [
        {"PolicyName": arn.rsplit("/", 1)[-1], "PolicyArn": arn}
        for arn in sorted(row.document["AttachedPolicies"])
        if prefix == "/" or find_policy(call, arn).document["Path"].startswith(prefix)
    ]
    return page(call, "AttachedPolicies", attached, lambda policy: policy["PolicyArn"])


@operation("PutRolePolicy", service="iam")
def put_role_policy(call: Call) -> dict[str, Any]:
    return put_inline(call, ROLE)


@operation("GetRolePolicy", service="iam")
def get_role_policy(call: Call) -> dict[str, Any]:
    return get_inline(call, ROLE)


@operation("DeleteRolePolicy", service="iam")
def delete_role_policy(call: Call) -> dict[str, Any]:
    return delete_inline(call, ROLE)


@operation("ListRolePolicies", service="iam")
def list_role_policies(call: Call) -> dict[str, Any]:
    return list_inline(call, ROLE)


@operation("AttachRolePolicy", service="iam")
def attach_role_policy(call: Call) -> dict[str, Any]:
    return attach(call, ROLE)


@operation("DetachRolePolicy", service="iam")
def detach_role_policy(call: Call) -> dict[str, Any]:
    return detach(call, ROLE)


@operation("ListAttachedRolePolicies", service="iam")
def list_attached_role_policies(call: Call) -> dict[str, Any]:
    return list_attached(call, ROLE)


@operation("PutUserPolicy", service="iam")
def put_user_policy(call: Call) -> dict[str, Any]:
    return put_inline(call, USER)


@operation("GetUserPolicy", service="iam")
def get_user_policy(call: Call) -> dict[str, Any]:
    return get_inline(call, USER)


@operation("DeleteUserPolicy", service="iam")
def delete_user_policy(call: Call) -> dict[str, Any]:
    return delete_inline(call, USER)


@operation("ListUserPolicies", service="iam")
def list_user_policies(call: Call) -> dict[str, Any]:
    return list_inline(call, USER)


@operation("AttachUserPolicy", service="iam")
def attach_user_policy(call: Call) -> dict[str, Any]:
    return attach(call, USER)


@operation("DetachUserPolicy", service="iam")
def detach_user_policy(call: Call) -> dict[str, Any]:
    return detach(call, USER)


@operation("ListAttachedUserPolicies", service="iam")
def list_attached_user_policies(call: Call) -> dict[str, Any]:
    return list_attached(call, USER)


@operation("PutGroupPolicy", service="iam")
def put_group_policy(call: Call) -> dict[str, Any]:
    return put_inline(call, GROUP)


@operation("GetGroupPolicy", service="iam")
def get_group_policy(call: Call) -> dict[str, Any]:
    return get_inline(call, GROUP)


@operation("DeleteGroupPolicy", service="iam")
def delete_group_policy(call: Call) -> dict[str, Any]:
    return delete_inline(call, GROUP)


@operation("ListGroupPolicies", service="iam")
def list_group_policies(call: Call) -> dict[str, Any]:
    return list_inline(call, GROUP)


@operation("AttachGroupPolicy", service="iam")
def attach_group_policy(call: Call) -> dict[str, Any]:
    return attach(call, GROUP)


@operation("DetachGroupPolicy", service="iam")
def detach_group_policy(call: Call) -> dict[str, Any]:
    return detach(call, GROUP)


@operation("ListAttachedGroupPolicies", service="iam")
def list_attached_group_policies(call: Call) -> dict[str, Any]:
    return list_attached(call, GROUP)
