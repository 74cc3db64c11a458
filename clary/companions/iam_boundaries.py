"""Permissions boundaries: the policy beyond which a user or role is granted nothing."""

from __future__ import annotations

from typing import Any

from clary.companions.iam_entities import ROLE, USER, Noun, change, no_such_entity
from clary.companions.iam_policies import find_policy
from clary.engine.call import Call, operation
from clary.model.errors import ApiError
from clary.store.rows import Row


def boundary_of(row: Row) -> dict[str, Any]:
    """The PermissionsBoundary member, absent where there is none."""
    arn = row.document.get("PermissionsBoundary")
    if not arn:
        return {}
    kinds = {"PermissionsBoundaryType": "PermissionsBoundaryPolicy", "PermissionsBoundaryArn": arn}
    return {"PermissionsBoundary": kinds}


def checked_boundary(call: Call) -> str:
    """The PermissionsBoundary of the input, "" where none is asked for."""
    arn = call.input.get("PermissionsBoundary") or ""
    if not arn:
        return ""
    if not arn.startswith("arn:aws:iam::") or ":policy/" not in arn:
        message = "Value at 'permissionsBoundary' is not a valid policy ARN"
        raise ApiError(f"{message}: {arn}", code="ValidationError", status=400)
    try:
        find_policy(call, arn)
    except ApiError as problem:
        message = f"Scope ARN: {arn} does not exist or is not attachable."
        raise no_such_entity(message) from problem
    return arn


def _bound(call: Call, noun: Noun, arn: str) -> dict[str, Any]:
    def edit(row: Row) -> None:
        row.document["PermissionsBoundary"] = arn

    change(call, noun, call.input[noun.member], edit)
    return {}


@operation("PutRolePermissionsBoundary", service="iam")
def put_role_permissions_boundary(call: Call) -> dict[str, Any]:
    return _bound(call, ROLE, checked_boundary(call))


@operation("DeleteRolePermissionsBoundary", service="iam")
def delete_role_permissions_boundary(call: Call) -> dict[str, Any]:
    return _bound(call, ROLE, "")


@operation("PutUserPermissionsBoundary", service="iam")
def put_user_permissions_boundary(call: Call) -> dict[str, Any]:
    return _bound(call, USER, checked_boundary(call))


@operation("DeleteUserPermissionsBoundary", service="iam")
def delete_user_permissions_boundary(call: Call) -> dict[str, Any]:
    return _bound(call, USER, "")
