"""What IAM says of the account as a whole: its summary, its alias, all its identities at once."""

from __future__ import annotations

from typing import Any

from clary.companions.iam_boundaries import boundary_of
from clary.companions.iam_entities import (
    GROUP,
    PROFILE,
    ROLE,
    USER,
    every,
    no_such_entity,
    page,
    url_encoded,
)
from clary.companions.iam_policies import KIND as POLICY
from clary.companions.iam_policies import (
    attachment_counts,
    described_version,
)
from clary.companions.iam_policies import described as described_policy
from clary.engine.call import Call, operation
from clary.model.errors import ApiError
from clary.store.rows import Row, RowExists

ALIAS = "iam:AccountAlias"


@operation("GetAccountSummary", service="iam")
def get_account_summary(call: Call) -> dict[str, Any]:
    policies = call.parts.store.rows.every(POLICY, account=call.account)
    aliases = call.parts.store.rows.every(ALIAS, account=call.account)
    return {
        "SummaryMap": {
            "Users": len(every(call, USER)),
            "UsersQuota": 5000,
            "Groups": len(every(call, GROUP)),
            "GroupsQuota": 300,
            "Roles": len(every(call, ROLE)),
            "RolesQuota": 1000,
            "InstanceProfiles": len(every(call, PROFILE)),
            "InstanceProfilesQuota": 1000,
            "Policies": len(policies),
            "PoliciesQuota": 1500,
            "PolicySizeQuota": 6144,
            "PolicyVersionsInUse": sum(len(row.document["Versions"]) for row in policies),
            "PolicyVersionsInUseQuota": 10_000,
            "VersionsPerPolicyQuota": 5,
            "AccessKeysPerUserQuota": 2,
            "AccountAccessKeysPresent": 0,
            "AccountMFAEnabled": 0,
            "MFADevices": 0,
            "MFADevicesInUse": 0,
            "Providers": 0,
            "ServerCertificates": 0,
            "ServerCertificatesQuota": 20,
            "AssumeRolePolicySizeQuota": 4096,
            "AttachedPoliciesPerGroupQuota": 20,
            "AttachedPoliciesPerRoleQuota": 20,
            "AttachedPoliciesPerUserQuota": 20,
            "GroupPolicySizeQuota": 5120,
            "GroupsPerUserQuota": 10,
            "RolePolicySizeQuota": 10_240,
            "UserPolicySizeQuota": 2048,
            "AccountAliases": len(aliases),
        }
    }


@operation("CreateAccountAlias", service="iam")
def create_account_alias(call: Call) -> dict[str, Any]:
    alias = call.input["AccountAlias"]
    rows = call.parts.store.rows
    # An account has one alias: a new one takes the place of the old.
    for row in rows.every(ALIAS, account=call.account):
        if row.name != alias:
            rows.delete(row)
    try:
        rows.insert(Row(ALIAS, alias, f"arn:aws:iam::{call.account}:alias/{alias}", call.account))
    except RowExists as problem:
        message = f"The account alias {alias} already exists."
        raise ApiError(message, code="EntityAlreadyExists", status=409) from problem
    return {}


@operation("ListAccountAliases", service="iam")
def list_account_aliases(call: Call) -> dict[str, Any]:
    rows = call.parts.store.rows.every(ALIAS, account=call.account)
    return page(call, "AccountAliases", [row.name for row in rows])


@operation("DeleteAccountAlias", service="iam")
def delete_account_alias(call: Call) -> dict[str, Any]:
    alias = call.input["AccountAlias"]
    row = call.parts.store.rows.get(ALIAS, alias, account=call.account)
    if row is None:
        raise no_such_entity(f"The account alias {alias} cannot be found.")
    call.parts.store.rows.delete(row)
    return {}


@operation("GetAccountAuthorizationDetails", service="iam")
def get_account_authorization_details(call: Call) -> dict[str, Any]:
    wanted = set(call.input.get("Filter") or [])
    lists = {
        "UserDetailList": ("User", every(call, USER)),
        "GroupDetailList": ("Group", every(call, GROUP)),
        "RoleDetailList": ("Role", every(call, ROLE)),
        "Policies": (
            "LocalManagedPolicy",
            call.parts.store.rows.every(POLICY, account=call.account),
        ),
    }
    found = [
        (member, row)
        for member, (name, rows) in lists.items()
        if not wanted or name in wanted
        for row in rows
    ]
    found.sort(key=lambda pair: pair[1].arn)
    answer = page(call, "Found", found, lambda pair: pair[1].arn)
    details: dict[str, Any] = {member: [] for member in lists}
    counts = attachment_counts(call)
    for member, row in answer.pop("Found"):
        details[member].append(_detail(member, row, counts))
    return details | answer


def _detail(member: str, row: Row, counts: Any) -> dict[str, Any]:
    if member == "Policies":
        versions = [described_version(row, version) for version in row.document["Versions"]]
        return described_policy(row, counts) | {"PolicyVersionList": versions}
    label = member.removesuffix("DetailList")
    inline = [
        {"PolicyName": name, "PolicyDocument": url_encoded(text)}
        for name, text in row.document["Policies"].items()
    ]
    attached = [
        {"PolicyName": arn.rsplit("/", 1)[-1], "PolicyArn": arn}
        for arn in row.document["AttachedPolicies"]
    ]
    detail: dict[str, Any] = {
        "Path": row.document["Path"],
        f"{label}Name": row.name,
        f"{label}Id": row.document[f"{label}Id"],
        "Arn": row.arn,
        "CreateDate": row.created,
        f"{label}PolicyList": inline,
        "AttachedManagedPolicies": attached,
        **boundary_of(row),
    }
    if label == "Role":
        trust = row.document["AssumeRolePolicyDocument"]
        detail["AssumeRolePolicyDocument"] = url_encoded(trust)
        detail["InstanceProfileList"] = []
    if label == "User":
        detail["GroupList"] = row.document["Groups"]
    if label != "Group" and row.tags:
        detail["Tags"] = row.tags
    return detail
