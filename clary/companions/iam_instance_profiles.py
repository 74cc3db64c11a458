"""IAM instance profiles: the wrapping in which EC2 hands a role to a machine."""

from __future__ import annotations

from typing import Any

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
    limit_exceeded,
    list_tags,
    no_such_entity,
    page,
    tag,
    untag,
)
from clary.companions.iam_roles import described as described_role
from clary.engine.call import Call, operation
from clary.store.rows import Row


def _described(call: Call, row: Row) -> dict[str, Any]:
    roles = [find(call, ROLE, name) for name in row.document["Roles"]]
    profile: dict[str, Any] = {
        "Path": row.document["Path"],
        "InstanceProfileName": row.name,
        "InstanceProfileId": row.document["InstanceProfileId"],
        "Arn": row.arn,
        "CreateDate": row.created,
        "Roles": [described_role(role, brief=True) for role in roles],
    }
    if row.tags:
        profile["Tags"] = row.tags
    return profile


def _page(call: Call, rows: list[Row]) -> dict[str, Any]:
    answer = page(call, "InstanceProfiles", rows, by_name)
    answer["InstanceProfiles"] = [_described(call, row) for row in answer["InstanceProfiles"]]
    return answer


@operation("CreateInstanceProfile", service="iam")
def create_instance_profile(call: Call) -> dict[str, Any]:
    row = create(call, PROFILE, {"Roles": []}, call.input.get("Tags"))
    return {"InstanceProfile": _described(call, row)}


@operation("GetInstanceProfile", service="iam")
def get_instance_profile(call: Call) -> dict[str, Any]:
    row = find(call, PROFILE, call.input["InstanceProfileName"])
    return {"InstanceProfile": _described(call, row)}


@operation("ListInstanceProfiles", service="iam")
def list_instance_profiles(call: Call) -> dict[str, Any]:
    return _page(call, below_path(every(call, PROFILE), call.input.get("PathPrefix")))


@operation("ListInstanceProfilesForRole", service="iam")
def list_instance_profiles_for_role(call: Call) -> dict[str, Any]:
    role = find(call, ROLE, call.input["RoleName"]).name
    return _page(call, [row for row in every(call, PROFILE) if role in row.document["Roles"]])


@operation("DeleteInstanceProfile", service="iam")
def delete_instance_profile(call: Call) -> dict[str, Any]:
    row = find(call, PROFILE, call.input["InstanceProfileName"])
    if row.document["Roles"]:
        raise delete_conflict(
            "Cannot delete entity, must remove roles from instance profile first."
        )
    delete(call, row)
    return {}


@operation("AddRoleToInstanceProfile", service="iam")
def add_role_to_instance_profile(call: Call) -> dict[str, Any]:
    role = find(call, ROLE, call.input["RoleName"]).name

    def edit(row: Row) -> None:
        if row.document["Roles"]:
            raise limit_exceeded("Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
        row.document["Roles"] = [role]

    change(call, PROFILE, call.input["InstanceProfileName"], edit)
    return {}


@operation("RemoveRoleFromInstanceProfile", service="iam")
def remove_role_from_instance_profile(call: Call) -> dict[str, Any]:
    role = call.input["RoleName"]

    def edit(row: Row) -> None:
        if role not in row.document["Roles"]:
            raise no_such_entity(f"The role with name {role} cannot be found.")
        row.document["Roles"].remove(role)

    change(call, PROFILE, call.input["InstanceProfileName"], edit)
    return {}


@operation("TagInstanceProfile", service="iam")
def tag_instance_profile(call: Call) -> dict[str, Any]:
    return tag(call, PROFILE)


@operation("UntagInstanceProfile", service="iam")
def untag_instance_profile(call: Call) -> dict[str, Any]:
    return untag(call, PROFILE)


@operation("ListInstanceProfileTags", service="iam")
def list_instance_profile_tags(call: Call) -> dict[str, Any]:
    return list_tags(call, PROFILE)
