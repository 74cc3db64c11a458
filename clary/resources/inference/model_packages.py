"""The containers of a model that is made from a model package, as the package says at that moment."""

from __future__ import annotations

from typing import Any

from clary.engine.call import Call
from clary.engine.verbs import as_kept
from clary.model.errors import ValidationException

# What a package's container says that a container of a model says as well.
_TAKEN = (
    "ContainerHostname",
    "Image",
    "ModelDataUrl",
    "ModelDataSource",
    "AdditionalModelDataSources",
    "Environment",
)
_GIVEN_BY_THE_PACKAGE = ("Image", "ModelDataUrl", "ModelDataSource")


def containers_of_package(call: Call, given: dict[str, Any]) -> list[dict[str, Any]]:
    """A container as it is, or the containers of the package that it names."""
    name = given.get("ModelPackageName")
    if not name:
        return [as_kept(given)]
    for member in _GIVEN_BY_THE_PACKAGE:
        if given.get(member):
            raise ValidationException(
                f"A container definition with a ModelPackageName cannot have {member}: the model "
                "package says it."
            )
    # Through the API, since the registry is another family; as the caller, who must be allowed to see it.
    package = call.parts.call(
        "sagemaker",
        "DescribeModelPackage",
        {"ModelPackageName": name},
        principal=call.principal,
        region=call.region,
    )
    _require_approved(package)
    specification = _specification(package, given.get("InferenceSpecificationName"))
    own = dict(given.get("Environment") or {})
    found: list[dict[str, Any]] = []
    for container in specification["Containers"]:
        made = {member: container[member] for member in _TAKEN if container.get(member)}
        made["Environment"] = {**(container.get("Environment") or {}), **own}
        if given.get("ContainerHostname") and len(specification["Containers"]) == 1:
            made["ContainerHostname"] = given["ContainerHostname"]
        found.append(as_kept(made))
    return found


def _require_approved(package: dict[str, Any]) -> None:
    """Of a version, ModelApprovalStatus "must be set to Approved to deploy the model" (CreateModelPackage)."""
    arn, status = package["ModelPackageArn"], package.get("ModelApprovalStatus", "Approved")
    if status != "Approved":
        raise ValidationException(
            f"Model package {arn} cannot be deployed: its ModelApprovalStatus is {status}. Set it "
            "to Approved with UpdateModelPackage first."
        )
    if package["ModelPackageStatus"] != "Completed":
        raise ValidationException(
            f"Model package {arn} cannot be deployed: its ModelPackageStatus is "
            f"{package['ModelPackageStatus']}."
        )


def _specification(package: dict[str, Any], name: str | None) -> dict[str, Any]:
    arn = package["ModelPackageArn"]
    if not name:
        found = package.get("InferenceSpecification")
        if not found:
            raise ValidationException(
                f"Model package {arn} has no InferenceSpecification and cannot be deployed."
            )
        return found
    for one in package.get("AdditionalInferenceSpecifications") or []:
        if one["Name"] == name:
            return one
    raise ValidationException(
        f"Model package {arn} has no additional inference specification {name}."
    )
