"""BatchDescribeModelPackage: up to a hundred model packages by ARN, with an error for each that is not there."""

from __future__ import annotations

from typing import Any

from clary.engine.call import Call, operation
from clary.engine.projection import project
from clary.engine.resource import BoundResource
from clary.store.rows import Row

_MEMBERS = (
    "ModelPackageGroupName",
    "ModelPackageVersion",
    "ModelPackageArn",
    "ModelPackageDescription",
    "CreationTime",
    "InferenceSpecification",
    "ModelPackageStatus",
    "ModelApprovalStatus",
    "ModelPackageRegistrationType",
)


@operation("BatchDescribeModelPackage")
def batch_describe_model_package(call: Call) -> dict[str, Any]:
    bound = call.parts.bound("ModelPackage")
    found: dict[str, Any] = {}
    errors: dict[str, Any] = {}
    for arn in call.input["ModelPackageArnList"]:
        row = call.parts.store.rows.by_arn(arn)
        if row is None or (row.kind, row.account) != ("ModelPackage", call.account):
            error = bound.missing_error(arn, arn)
            errors[arn] = {"ErrorCode": error.code, "ErrorResponse": error.message}
        else:
            found[arn] = _shown(bound, row)
    answer: dict[str, Any] = {"ModelPackageSummaries": found}
    return {**answer, "BatchDescribeModelPackageErrorMap": errors} if errors else answer


def _shown(bound: BoundResource, row: Row) -> dict[str, Any]:
    """Members that the answer requires are there even where a package has none."""
    required = {"ModelPackageGroupName": row.name, "InferenceSpecification": {"Containers": []}}
    return {**required, **project(bound, row, _MEMBERS)}
