"""Managed policies of IAM and their versions, the account's own and AWS's."""

from __future__ import annotations

from functools import partial
from typing import Any

from clary.companions.iam_entities import (
    ATTEMPTS_MAX,
    GROUP,
    ROLE,
    USER,
    add_tags,
    checked_tags,
    concurrent_modification,
    delete,
    delete_conflict,
    every,
    invalid_input,
    limit_exceeded,
    no_such_entity,
    page,
    page_of_tags,
    remove_tags,
    url_encoded,
)
from clary.engine.call import Call, operation
from clary.identity.managed_policies import PREFIX, aws_managed_policies
from clary.identity.policy_documents import parse_policy
from clary.identity.sessions import new_unique_id
from clary.model.errors import ApiError
from clary.store.rows import Row, RowChanged, RowExists

KIND = "iam:Policy"
DOCUMENT_CHARACTERS_MAX = 6144
VERSIONS_MAX = 5
# AWS's own policies are as old as this program; clients only want some time.
_AWS_POLICY_TIME = 1_420_070_400.0  # 2015-01-01


def checked_document(text: str) -> str:
    parse_policy(text, "identity")
    if len("".join(text.split())) > DOCUMENT_CHARACTERS_MAX:
        raise limit_exceeded(f"Cannot exceed quota for PolicySize: {DOCUMENT_CHARACTERS_MAX}")
    return text


def find_policy(call: Call, arn: str) -> Row:
    """A policy of the account or of AWS; raise NoSuchEntity."""
    if arn.startswith(PREFIX):
        text = aws_managed_policies().get(arn)
        if text is not None:
            return _aws_policy(arn, text)
    row = call.parts.store.rows.by_arn(arn)
    if row is None or row.kind != KIND:
        raise no_such_entity(f"Policy {arn} was not found.")
    return row


def _aws_policy(arn: str, text: str) -> Row:
    folder, _, name = arn.removeprefix(PREFIX).rpartition("/")
    version = {"Document": text, "CreateDate": _AWS_POLICY_TIME}
    document = {
        "Path": f"/{folder}/" if folder else "/",
        "PolicyId": "ANPA" + name.upper().replace("-", "")[:17].ljust(17, "A"),
        "DefaultVersionId": "v1",
        "Versions": {"v1": version},
        "Description": "",
    }
    time = _AWS_POLICY_TIME
    return Row(KIND, name, arn, document=document, created=time, modified=time)


def own_policy(call: Call, arn: str) -> Row:
    """A policy that may be changed: not one of AWS's."""
    row = find_policy(call, arn)
    if arn.startswith(PREFIX):
        message = f"Cannot modify the AWS managed policy {arn}."
        raise ApiError(message, code="AccessDenied", status=403)
    return row


def attachable(call: Call, arn: str) -> None:
    """Raise NoSuchEntity in AttachPolicy's words unless the policy exists."""
    try:
        find_policy(call, arn)
    except ApiError as problem:
        message = f"Policy {arn} does not exist or is not attachable."
        raise no_such_entity(message) from problem


def users_of(call: Call, arn: str, member: str = "AttachedPolicies") -> list[tuple[str, Row]]:
    """Which users, roles and groups a policy is attached to (or bounds), as (word, row)."""
    found: list[tuple[str, Row]] = []
    for noun in (USER, ROLE, GROUP):
        for row in every(call, noun):
            held = row.document.get(member) or []
            if arn in held if isinstance(held, list) else arn == held:
                found.append((noun.word, row))
    return found


def attachment_counts(call: Call) -> tuple[dict[str, int], dict[str, int]]:
    """How often each policy is attached, and how often it is a boundary."""
    attached: dict[str, int] = {}
    bounds: dict[str, int] = {}
    for noun in (USER, ROLE, GROUP):
        for row in every(call, noun):
            for arn in row.document.get("AttachedPolicies", []):
                attached[arn] = attached.get(arn, 0) + 1
            if row.document.get("PermissionsBoundary"):
                arn = row.document["PermissionsBoundary"]
                bounds[arn] = bounds.get(arn, 0) + 1
    return attached, bounds


Counts = tuple[dict[str, int], dict[str, int]]


def described(row: Row, counts: Counts, *, brief: bool = False) -> dict[str, Any]:
    attached, bounds = counts
    policy: dict[str, Any] = {
        "PolicyName": row.name,
        "PolicyId": row.document["PolicyId"],
        "Arn": row.arn,
        "Path": row.document["Path"],
        "DefaultVersionId": row.document["DefaultVersionId"],
        "AttachmentCount": attached.get(row.arn, 0),
        "PermissionsBoundaryUsageCount": bounds.get(row.arn, 0),
        "IsAttachable": True,
        "CreateDate": row.created,
        "UpdateDate": row.modified,
    }
    if not brief:
        if row.document.get("Description"):
            policy["Description"] = row.document["Description"]
        if row.tags:
            policy["Tags"] = row.tags
    return policy


def described_version(row: Row, version: str, *, brief: bool = False) -> dict[str, Any]:
    held = row.document["Versions"][version]
    answer = {
        "VersionId": version,
        "IsDefaultVersion": version == row.document["DefaultVersionId"],
        "CreateDate": held["CreateDate"],
    }
    if not brief:
        answer["Document"] = url_encoded(held["Document"])
    return answer


@operation("CreatePolicy", service="iam")
def create_policy(call: Call) -> dict[str, Any]:
    name, path = call.input["PolicyName"], call.input.get("Path") or "/"
    text = checked_document(call.input["PolicyDocument"])
    now = float(int(call.time))
    row = Row(
        kind=KIND,
        name=name,
        arn=f"arn:aws:iam::{call.account}:policy{path}{name}",
        account=call.account,
        document={
            "Path": path,
            "PolicyId": new_unique_id("ANPA"),
            "Description": call.input.get("Description", ""),
            "DefaultVersionId": "v1",
            "LastVersion": 1,
            "Versions": {"v1": {"Document": text, "CreateDate": now}},
        },
        tags=checked_tags([], call.input.get("Tags") or []),
        created=now,
    )
    try:
        row = call.parts.store.rows.insert(row)
    except RowExists as problem:
        message = f"A policy called {name} already exists. Duplicate names are not allowed."
        raise ApiError(message, code="EntityAlreadyExists", status=409) from problem
    return {"Policy": described(row, ({}, {}))}


@operation("GetPolicy", service="iam")
def get_policy(call: Call) -> dict[str, Any]:
    row = find_policy(call, call.input["PolicyArn"])
    return {"Policy": described(row, attachment_counts(call))}


@operation("ListPolicies", service="iam")
def list_policies(call: Call) -> dict[str, Any]:
    scope = call.input.get("Scope") or "All"
    rows: list[Row] = []
    if scope != "AWS":
        rows += call.parts.store.rows.every(KIND, account=call.account)
    if scope != "Local":
        rows += [_aws_policy(arn, text) for arn, text in aws_managed_policies().items()]
    counts = attachment_counts(call)
    attached, bounds = counts
    prefix = call.input.get("PathPrefix") or "/"
    usage = bounds if call.input.get("PolicyUsageFilter") == "PermissionsBoundary" else attached
    rows = [row for row in rows if row.document["Path"].startswith(prefix)]
    if call.input.get("OnlyAttached") or call.input.get("PolicyUsageFilter"):
        rows = [row for row in rows if usage.get(row.arn)]
    rows.sort(key=_by_arn)
    answer = page(call, "Policies", rows, _by_arn)
    answer["Policies"] = [described(row, counts, brief=True) for row in answer["Policies"]]
    return answer


def _by_arn(row: Row) -> str:
    return row.arn


@operation("DeletePolicy", service="iam")
def delete_policy(call: Call) -> dict[str, Any]:
    row = own_policy(call, call.input["PolicyArn"])
    if users_of(call, row.arn) or users_of(call, row.arn, "PermissionsBoundary"):
        raise delete_conflict("Cannot delete a policy attached to entities.")
    if len(row.document["Versions"]) > 1:
        raise delete_conflict(
            "This policy has more than one version. Before you delete a policy, you must delete "
            "the policy's versions. The default version is deleted with the policy."
        )
    delete(call, row)
    return {}


def _change(call: Call, edit: Any) -> Row:
    for _ in range(ATTEMPTS_MAX):
        row = own_policy(call, call.input["PolicyArn"])
        edit(row)
        try:
            return call.parts.store.rows.update(row)
        except RowChanged:
            continue
    raise concurrent_modification()


@operation("CreatePolicyVersion", service="iam")
def create_policy_version(call: Call) -> dict[str, Any]:
    text = checked_document(call.input["PolicyDocument"])

    def edit(row: Row) -> None:
        document = row.document
        if len(document["Versions"]) >= VERSIONS_MAX:
            raise limit_exceeded(
                "A managed policy can have up to 5 versions. Before you create a new version, you "
                "must delete an existing version."
            )
        document["LastVersion"] += 1
        version = f"v{document['LastVersion']}"
        document["Versions"][version] = {"Document": text, "CreateDate": float(int(call.time))}
        if call.input.get("SetAsDefault"):
            document["DefaultVersionId"] = version

    row = _change(call, edit)
    version = f"v{row.document['LastVersion']}"
    return {"PolicyVersion": described_version(row, version, brief=True)}


def _version(row: Row, version: str) -> str:
    if version not in row.document["Versions"]:
        raise no_such_entity(
            f"Policy {row.arn} version {version} does not exist or is not attachable."
        )
    return version


@operation("GetPolicyVersion", service="iam")
def get_policy_version(call: Call) -> dict[str, Any]:
    row = find_policy(call, call.input["PolicyArn"])
    version = _version(row, call.input["VersionId"])
    return {"PolicyVersion": described_version(row, version)}


@operation("ListPolicyVersions", service="iam")
def list_policy_versions(call: Call) -> dict[str, Any]:
    row = find_policy(call, call.input["PolicyArn"])
    # Newest first; a page needs a key that grows, so it counts down from the highest number.
    numbers = sorted((int(version[1:]) for version in row.document["Versions"]), reverse=True)
    answer = page(call, "Versions", numbers, lambda number: f"{1_000_000_000 - number:010}")
    versions = [described_version(row, f"v{n}", brief=True) for n in answer["Versions"]]
    return answer | {"Versions": versions}


@operation("DeletePolicyVersion", service="iam")
def delete_policy_version(call: Call) -> dict[str, Any]:
    def edit(row: Row) -> None:
        version = _version(row, call.input["VersionId"])
        if version == row.document["DefaultVersionId"]:
            raise delete_conflict("Cannot delete the default version of a policy.")
        del row.document["Versions"][version]

    _change(call, edit)
    return {}


@operation("SetDefaultPolicyVersion", service="iam")
def set_default_policy_version(call: Call) -> dict[str, Any]:
    def edit(row: Row) -> None:
        row.document["DefaultVersionId"] = _version(row, call.input["VersionId"])

    _change(call, edit)
    return {}


@operation("TagPolicy", service="iam")
def tag_policy(call: Call) -> dict[str, Any]:
    _change(call, partial(add_tags, call))
    return {}


@operation("UntagPolicy", service="iam")
def untag_policy(call: Call) -> dict[str, Any]:
    _change(call, partial(remove_tags, call))
    return {}


@operation("ListPolicyTags", service="iam")
def list_policy_tags(call: Call) -> dict[str, Any]:
    return page_of_tags(call, find_policy(call, call.input["PolicyArn"]))


@operation("ListEntitiesForPolicy", service="iam")
def list_entities_for_policy(call: Call) -> dict[str, Any]:
    row = find_policy(call, call.input["PolicyArn"])
    bounds = call.input.get("PolicyUsageFilter") == "PermissionsBoundary"
    member = "PermissionsBoundary" if bounds else "AttachedPolicies"
    wanted = call.input.get("EntityFilter")
    if wanted and wanted not in _ENTITY_WORDS:
        raise invalid_input(f"EntityFilter {wanted} is not one of User, Role, Group.")
    prefix = call.input.get("PathPrefix") or "/"
    found = [
        (word, held)
        for word, held in users_of(call, row.arn, member)
        if held.document["Path"].startswith(prefix) and _ENTITY_WORDS.get(wanted, word) == word
    ]
    found.sort(key=lambda pair: f"{pair[0]}/{pair[1].name}")
    answer = page(call, "Found", found, lambda pair: f"{pair[0]}/{pair[1].name}")
    lists: dict[str, Any] = {"PolicyGroups": [], "PolicyUsers": [], "PolicyRoles": []}
    for word, held in answer.pop("Found"):
        label = word.capitalize()
        entity = {f"{label}Name": held.name, f"{label}Id": held.document[f"{label}Id"]}
        lists[f"Policy{label}s"].append(entity)
    return answer | lists


_ENTITY_WORDS: dict[str | None, str] = {
    "User": "user",
    "Role": "role",
    "Group": "group",
}
