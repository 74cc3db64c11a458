"""IAM users: people and programs with long-lived keys."""

from __future__ import annotations

from typing import Any

from clary.companions.iam_boundaries import boundary_of, checked_boundary
from clary.companions.iam_entities import (
    USER,
    below_path,
    by_name,
    change,
    create,
    delete,
    delete_conflict,
    every,
    find,
    list_tags,
    page,
    tag,
    untag,
    validation_error,
)
from clary.engine.call import Call, operation
from clary.identity.access_keys import KIND as ACCESS_KEY
from clary.store.rows import Row


def described(row: Row, *, brief: bool = False) -> dict[str, Any]:
    user: dict[str, Any] = {
        "Path": row.document["Path"],
        "UserName": row.name,
        "UserId": row.document["UserId"],
        "Arn": row.arn,
        "CreateDate": row.created,
    }
    if not brief:
        user |= boundary_of(row)
        if row.tags:
            user["Tags"] = row.tags
    return user


def user_name(call: Call) -> str:
    """The UserName of the input, or the caller's own."""
    name = call.input.get("UserName")
    if name:
        return name
    if call.principal.kind != "user":
        raise validation_error("Must specify userName when calling with non-User credentials")
    return call.principal.name


def new_document(boundary: str = "") -> dict[str, Any]:
    return {
        "PermissionsBoundary": boundary,
        "Policies": {},
        "AttachedPolicies": [],
        "Groups": [],
    }


@operation("CreateUser", service="iam")
def create_user(call: Call) -> dict[str, Any]:
    document = new_document(checked_boundary(call))
    return {"User": described(create(call, USER, document, call.input.get("Tags")))}


@operation("GetUser", service="iam")
def get_user(call: Call) -> dict[str, Any]:
    return {"User": described(find(call, USER, user_name(call)))}


@operation("ListUsers", service="iam")
def list_users(call: Call) -> dict[str, Any]:
    rows = below_path(every(call, USER), call.input.get("PathPrefix"))
    answer = page(call, "Users", rows, by_name)
    answer["Users"] = [described(row, brief=True) for row in answer["Users"]]
    return answer


@operation("UpdateUser", service="iam")
def update_user(call: Call) -> dict[str, Any]:
    """Change the path; a new name would orphan keys and attachments held under the old one."""
    if call.input.get("NewUserName") not in (None, call.input["UserName"]):
        raise validation_error("A user cannot be renamed; create another and move its policies.")

    def edit(row: Row) -> None:
        path = call.input.get("NewPath")
        if path:
            row.document["Path"] = path
            row.arn = f"arn:aws:iam::{call.account}:user{path}{row.name}"

    change(call, USER, call.input["UserName"], edit)
    return {}


@operation("DeleteUser", service="iam")
def delete_user(call: Call) -> dict[str, Any]:
    row = find(call, USER, call.input["UserName"])
    rows = call.parts.store.rows
    held = (
        (
            rows.every(ACCESS_KEY, account=call.account, parent=row.name),
            "delete access keys first.",
        ),
        (row.document["AttachedPolicies"], "detach all policies first."),
        (row.document["Policies"], "delete policies first."),
        (row.document["Groups"], "remove users from group first."),
    )
    for still, remedy in held:
        if still:
            raise delete_conflict(f"Cannot delete entity, must {remedy}")
    delete(call, row)
    return {}


@operation("TagUser", service="iam")
def tag_user(call: Call) -> dict[str, Any]:
    return tag(call, USER)


@operation("UntagUser", service="iam")
def untag_user(call: Call) -> dict[str, Any]:
    return untag(call, USER)


@operation("ListUserTags", service="iam")
def list_user_tags(call: Call) -> dict[str, Any]:
    return list_tags(call, USER)
