"""IAM groups: users that share policies."""

from __future__ import annotations

from typing import Any

from clary.companions.iam_entities import (
    GROUP,
    USER,
    below_path,
    by_name,
    change,
    create,
    delete,
    delete_conflict,
    every,
    find,
    limit_exceeded,
    page,
    validation_error,
)
from clary.companions.iam_users import described as described_user
from clary.engine.call import Call, operation
from clary.store.rows import Row

GROUPS_PER_USER_MAX = 10


def described(row: Row) -> dict[str, Any]:
    return {
        "Path": row.document["Path"],
        "GroupName": row.name,
        "GroupId": row.document["GroupId"],
        "Arn": row.arn,
        "CreateDate": row.created,
    }


def members(call: Call, group: str) -> list[Row]:
    return [row for row in every(call, USER) if group in row.document["Groups"]]


@operation("CreateGroup", service="iam")
def create_group(call: Call) -> dict[str, Any]:
    return {"Group": described(create(call, GROUP, {"Policies": {}, "AttachedPolicies": []}))}


@operation("GetGroup", service="iam")
def get_group(call: Call) -> dict[str, Any]:
    row = find(call, GROUP, call.input["GroupName"])
    answer = page(call, "Users", members(call, row.name), by_name)
    answer["Users"] = [described_user(user, brief=True) for user in answer["Users"]]
    return {"Group": described(row), **answer}


@operation("ListGroups", service="iam")
def list_groups(call: Call) -> dict[str, Any]:
    rows = below_path(every(call, GROUP), call.input.get("PathPrefix"))
    answer = page(call, "Groups", rows, by_name)
    answer["Groups"] = [described(row) for row in answer["Groups"]]
    return answer


@operation("ListGroupsForUser", service="iam")
def list_groups_for_user(call: Call) -> dict[str, Any]:
    names = find(call, USER, call.input["UserName"]).document["Groups"]
    rows = [row for row in every(call, GROUP) if row.name in names]
    answer = page(call, "Groups", rows, by_name)
    answer["Groups"] = [described(row) for row in answer["Groups"]]
    return answer


@operation("UpdateGroup", service="iam")
def update_group(call: Call) -> dict[str, Any]:
    """Change the path; its members hold the group by its name."""
    if call.input.get("NewGroupName") not in (None, call.input["GroupName"]):
        raise validation_error("A group cannot be renamed; create another and move its members.")

    def edit(row: Row) -> None:
        path = call.input.get("NewPath")
        if path:
            row.document["Path"] = path
            row.arn = f"arn:aws:iam::{call.account}:group{path}{row.name}"

    change(call, GROUP, call.input["GroupName"], edit)
    return {}


@operation("DeleteGroup", service="iam")
def delete_group(call: Call) -> dict[str, Any]:
    row = find(call, GROUP, call.input["GroupName"])
    if members(call, row.name):
        raise delete_conflict("Cannot delete entity, must remove users from group first.")
    if row.document["AttachedPolicies"]:
        raise delete_conflict("Cannot delete entity, must detach all policies first.")
    if row.document["Policies"]:
        raise delete_conflict("Cannot delete entity, must delete policies first.")
    delete(call, row)
    return {}


@operation("AddUserToGroup", service="iam")
def add_user_to_group(call: Call) -> dict[str, Any]:
    group = find(call, GROUP, call.input["GroupName"]).name

    def edit(row: Row) -> None:
        groups = row.document["Groups"]
        if group in groups:
            return
        if len(groups) >= GROUPS_PER_USER_MAX:
            raise limit_exceeded(f"Cannot exceed quota for GroupsPerUser: {GROUPS_PER_USER_MAX}")
        groups.append(group)

    change(call, USER, call.input["UserName"], edit)
    return {}


@operation("RemoveUserFromGroup", service="iam")
def remove_user_from_group(call: Call) -> dict[str, Any]:
    group = find(call, GROUP, call.input["GroupName"]).name

    def edit(row: Row) -> None:
        row.document["Groups"] = [name for name in row.document["Groups"] if name != group]

    change(call, USER, call.input["UserName"], edit)
    return {}
