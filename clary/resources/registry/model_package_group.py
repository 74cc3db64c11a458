"""A model package group holds the versions of one model, and says who else may use them."""

from __future__ import annotations

import json
from typing import Any

from clary.engine.call import Call
from clary.engine.naming import find_row
from clary.engine.resource import Resource
from clary.engine.verbs import change_row, delete_row
from clary.model.errors import ValidationException
from clary.store.rows import Query, Row

KIND = "ModelPackageGroup"

model_package_group = Resource(
    KIND,
    sorts=("created", False),
    # There is one account, so no group is of another.
    filters={"CrossAccountFilterOption": lambda call, row, option: option == "SameAccount"},
    computed={"ModelPackageGroupStatus": lambda row: "Completed"},
    missing=ValidationException("ModelPackageGroup {arn} does not exist."),
    taken=ValidationException("Model Package Group already exists: {arn}"),
)


@model_package_group.operation("DeleteModelPackageGroup")
def delete_model_package_group(call: Call) -> dict[str, Any]:
    def has_no_versions(row: Row) -> None:
        if _has_versions(call, row):
            raise ValidationException(
                "Model Package Group cannot be deleted because it still contains Model Packages. "
                "Delete its model packages first."
            )

    delete_row(call.parts.bound(KIND), call, has_no_versions)
    return {}


def _has_versions(call: Call, group: Row) -> bool:
    query = Query(
        "ModelPackage",
        call.account,
        call.region,
        name_contains=f"{group.name}/",
        sort_by="name",
        limit=1,
        matches=lambda row: row.document.get("ModelPackageGroupName") == group.name,
    )
    return bool(call.parts.store.rows.page(query)[0])


@model_package_group.operation("PutModelPackageGroupPolicy")
def put_model_package_group_policy(call: Call) -> dict[str, Any]:
    text = call.input["ResourcePolicy"]
    try:
        statements = json.loads(text).get("Statement")
    except (ValueError, AttributeError) as problem:
        raise ValidationException("ResourcePolicy is not a valid JSON policy.") from problem
    if not statements:
        raise ValidationException("ResourcePolicy has no Statement.")

    def change(row: Row) -> None:
        row.state["policy"] = text

    row = change_row(call.parts.bound(KIND), call, change)
    return {"ModelPackageGroupArn": row.arn}


@model_package_group.operation("GetModelPackageGroupPolicy")
def get_model_package_group_policy(call: Call) -> dict[str, Any]:
    return {"ResourcePolicy": _policy(find_row(call.parts.bound(KIND), call))}


@model_package_group.operation("DeleteModelPackageGroupPolicy")
def delete_model_package_group_policy(call: Call) -> dict[str, Any]:
    def change(row: Row) -> None:
        _policy(row)
        del row.state["policy"]

    change_row(call.parts.bound(KIND), call, change)
    return {}


def _policy(row: Row) -> str:
    if not row.state.get("policy"):
        raise ValidationException(f"Cannot find resource policy of Model Package Group {row.arn}.")
    return row.state["policy"]
