"""IAM roles: identities that services, jobs and users assume."""

from __future__ import annotations

from typing import Any

from clary.companions.iam_boundaries import boundary_of, checked_boundary
from clary.companions.iam_entities import (
    PROFILE,
    ROLE,
    below_path,
    by_name,
    change,
    create,
    delete,
    delete_conflict,
    every,
    find,
    invalid_input,
    limit_exceeded,
    list_tags,
    page,
    tag,
    untag,
    url_encoded,
)
from clary.engine.call import Call, operation
from clary.identity.policy_documents import parse_policy
from clary.store.rows import Row

SESSION_SECONDS_DEFAULT = 3600
TRUST_CHARACTERS_MAX = 4096

# Services whose linked role has a name that is not simply the service's.
_LINKED_NAMES = {
    "sagemaker.amazonaws.com": "AmazonSageMakerNotebooks",
    "sagemaker.application-autoscaling.amazonaws.com": "ApplicationAutoScaling_SageMakerEndpoint",
}


def described(row: Row, *, brief: bool = False) -> dict[str, Any]:
    """The Role structure; ListRoles leaves out the members that AWS leaves out there."""
    document = row.document
    role: dict[str, Any] = {
        "Path": document["Path"],
        "RoleName": row.name,
        "RoleId": document["RoleId"],
        "Arn": row.arn,
        "CreateDate": row.created,
        "AssumeRolePolicyDocument": url_encoded(document["AssumeRolePolicyDocument"]),
        "MaxSessionDuration": document["MaxSessionDuration"],
    }
    if document.get("Description"):
        role["Description"] = document["Description"]
    if not brief:
        role |= boundary_of(row)
        role["RoleLastUsed"] = {}
        if row.tags:
            role["Tags"] = row.tags
    return role


def checked_trust(text: str) -> str:
    if len("".join(text.split())) > TRUST_CHARACTERS_MAX:
        raise limit_exceeded("Cannot exceed quota for ACLSizePerRole: 4096")
    parse_policy(text, "trust")
    return text


@operation("CreateRole", service="iam")
def create_role(call: Call) -> dict[str, Any]:
    document = {
        "AssumeRolePolicyDocument": checked_trust(call.input["AssumeRolePolicyDocument"]),
        "Description": call.input.get("Description", ""),
        "MaxSessionDuration": call.input.get("MaxSessionDuration") or SESSION_SECONDS_DEFAULT,
        "PermissionsBoundary": checked_boundary(call),
        "Policies": {},
        "AttachedPolicies": [],
    }
    return {"Role": described(create(call, ROLE, document, call.input.get("Tags")))}


@operation("GetRole", service="iam")
def get_role(call: Call) -> dict[str, Any]:
    return {"Role": described(find(call, ROLE, call.input["RoleName"]))}


@operation("ListRoles", service="iam")
def list_roles(call: Call) -> dict[str, Any]:
    rows = below_path(every(call, ROLE), call.input.get("PathPrefix"))
    answer = page(call, "Roles", rows, by_name)
    answer["Roles"] = [described(row, brief=True) for row in answer["Roles"]]
    return answer


@operation("DeleteRole", service="iam")
def delete_role(call: Call) -> dict[str, Any]:
    row = find(call, ROLE, call.input["RoleName"])
    if row.document["AttachedPolicies"]:
        raise delete_conflict("Cannot delete entity, must detach all policies first.")
    if row.document["Policies"]:
        raise delete_conflict("Cannot delete entity, must delete policies first.")
    if any(row.name in profile.document["Roles"] for profile in every(call, PROFILE)):
        raise delete_conflict(
            "Cannot delete entity, must remove roles from instance profile first."
        )
    delete(call, row)
    return {}


def _update(call: Call) -> Row:
    def edit(row: Row) -> None:
        if call.input.get("Description") is not None:
            row.document["Description"] = call.input["Description"]
        if call.input.get("MaxSessionDuration"):
            row.document["MaxSessionDuration"] = call.input["MaxSessionDuration"]

    return change(call, ROLE, call.input["RoleName"], edit)


@operation("UpdateRole", service="iam")
def update_role(call: Call) -> dict[str, Any]:
    _update(call)
    return {}


@operation("UpdateRoleDescription", service="iam")
def update_role_description(call: Call) -> dict[str, Any]:
    return {"Role": described(_update(call))}


@operation("UpdateAssumeRolePolicy", service="iam")
def update_assume_role_policy(call: Call) -> dict[str, Any]:
    text = checked_trust(call.input["PolicyDocument"])

    def edit(row: Row) -> None:
        row.document["AssumeRolePolicyDocument"] = text

    change(call, ROLE, call.input["RoleName"], edit)
    return {}


@operation("TagRole", service="iam")
def tag_role(call: Call) -> dict[str, Any]:
    return tag(call, ROLE)


@operation("UntagRole", service="iam")
def untag_role(call: Call) -> dict[str, Any]:
    return untag(call, ROLE)


@operation("ListRoleTags", service="iam")
def list_role_tags(call: Call) -> dict[str, Any]:
    return list_tags(call, ROLE)


@operation("CreateServiceLinkedRole", service="iam")
def create_service_linked_role(call: Call) -> dict[str, Any]:
    """The role that a service keeps for itself, named after the service."""
    service = call.input["AWSServiceName"]
    words = service.removesuffix(".amazonaws.com").replace("-", ".").split(".")
    known = _LINKED_NAMES.get(service) or "".join(word.capitalize() for word in words)
    name = f"AWSServiceRoleFor{known}"
    if call.input.get("CustomSuffix"):
        name += f"_{call.input['CustomSuffix']}"
    trust = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":'
        f'{{"Service":["{service}"]}},"Action":["sts:AssumeRole"]}}]}}'
    )
    if any(row.name == name for row in every(call, ROLE)):
        message = (
            f"Service role name {name} has been taken in this account, please try a different "
            "suffix."
        )
        raise invalid_input(message)
    parse_policy(trust, "trust")
    named = {"RoleName": name, "Path": f"/aws-service-role/{service}/"}
    document = {
        "AssumeRolePolicyDocument": trust,
        "Description": call.input.get("Description", ""),
        "MaxSessionDuration": SESSION_SECONDS_DEFAULT,
        "PermissionsBoundary": "",
        "Policies": {},
        "AttachedPolicies": [],
    }
    return {"Role": described(create(call, ROLE, document, named=named))}


@operation("DeleteServiceLinkedRole", service="iam")
def delete_service_linked_role(call: Call) -> dict[str, Any]:
    row = find(call, ROLE, call.input["RoleName"])
    if not row.document["Path"].startswith("/aws-service-role/"):
        raise invalid_input(f"The role {row.name} is not a service-linked role.")
    delete(call, row)
    task = f"task{row.document['Path']}{row.name}/{row.document['RoleId'].lower()}"
    return {"DeletionTaskId": task}


@operation("GetServiceLinkedRoleDeletionStatus", service="iam")
def get_service_linked_role_deletion_status(call: Call) -> dict[str, Any]:
    """Deletion is immediate here, so a task that names a role that is gone has succeeded."""
    parts = call.input["DeletionTaskId"].split("/")
    if len(parts) < 4 or parts[0] != "task":
        raise invalid_input(f"Deletion task id {call.input['DeletionTaskId']} is not valid.")
    row = call.parts.store.rows.get(ROLE.kind, parts[-2], account=call.account)
    same = row is not None and row.document["RoleId"].lower() == parts[-1]
    return {"Status": "IN_PROGRESS" if same else "SUCCEEDED"}
