"""A model package group holds the versions of one model."""

from clary.engine.resource import Resource
from clary.model.errors import ValidationException

model_package_group = Resource(
    "ModelPackageGroup",
    sorts=("created", False),
    # There is one account, so no group is of another.
    filters={"CrossAccountFilterOption": lambda call, row, option: option == "SameAccount"},
    computed={"ModelPackageGroupStatus": lambda row: "Completed"},
    missing=ValidationException("ModelPackageGroup {arn} does not exist."),
    taken=ValidationException("Model Package Group already exists: {arn}"),
)
