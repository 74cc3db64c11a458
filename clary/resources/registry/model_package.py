"""A model package is one version of a model: its containers, its metrics, and whether it may be deployed."""

from __future__ import annotations

from typing import Any

from clary.engine import validations
from clary.engine.call import Call
from clary.engine.listing import list_resources
from clary.engine.naming import arn_of
from clary.engine.projection import describe as described
from clary.engine.resource import BoundResource, Resource
from clary.engine.verbs import ATTEMPTS_MAX, create, delete_row, update_members
from clary.model.arns import Arn
from clary.model.errors import ConflictException, ValidationException
from clary.store.rows import Row, RowChanged

KIND, GROUP = "ModelPackage", "ModelPackageGroup"
PENDING = "PendingManualApproval"
TOKENS_KEPT = 20  # of a group: those of its latest versions
SPECIFICATIONS = "AdditionalInferenceSpecifications"


def one_name_or_a_group(call: Call) -> None:
    """A version belongs to a group; a package of its own has a name and no approval."""
    name, group = call.input.get("ModelPackageName"), call.input.get("ModelPackageGroupName")
    if bool(name) == bool(group):
        raise ValidationException(
            "Exactly one of ModelPackageName and ModelPackageGroupName must be provided."
        )
    if group:
        call.input["ModelPackageGroupName"] = _group(call).name
        call.input.setdefault("ModelApprovalStatus", PENDING)
    elif call.input.get("ModelApprovalStatus"):
        raise ValidationException(
            "ModelApprovalStatus is for versions of a model package group; a package with a name "
            "of its own has none."
        )


def containers_are_named(call: Call) -> None:
    """Either they are given, or an algorithm says what serves the artifacts that it makes."""
    source = call.input.get("SourceAlgorithmSpecification")
    if source and not call.input.get("InferenceSpecification"):
        call.input["InferenceSpecification"] = _of_algorithm(call, source)
    specification = call.input.get("InferenceSpecification")
    if not specification:
        # A version that only tells of a model, such as one of MLflow's, is registered all the same.
        return
    for container in specification["Containers"]:
        if not container.get("Image"):
            raise ValidationException(
                "A container of an InferenceSpecification must name an Image."
            )


def validation_can_be_run(call: Call) -> None:
    """A profile transforms with the containers of the package, on an instance that it says it supports."""
    asked = _profiles(call.input)
    if not asked:
        return
    specification = call.input.get("InferenceSpecification")
    if not specification:
        raise ValidationException(
            "A ValidationSpecification needs an InferenceSpecification, whose containers it runs."
        )
    supported = specification.get("SupportedTransformInstanceTypes") or []
    for one in asked:
        wanted = one["TransformJobDefinition"]["TransformResources"]["InstanceType"]
        if supported and wanted not in supported:
            raise ValidationException(
                f"Validation profile {one['ProfileName']} asks for instance type {wanted}, which is "
                f"not among the SupportedTransformInstanceTypes: {', '.join(supported)}."
            )


def _profiles(request: dict[str, Any]) -> list[dict[str, Any]]:
    if request.get("SkipModelValidation") == "All":
        return []
    return (request.get("ValidationSpecification") or {}).get("ValidationProfiles") or []


def request_of(row: Row, number: int, stage: str) -> dict[str, Any]:
    """The model of the package's containers, and the transform job of a profile with it."""
    asked = row.document["ValidationSpecification"]
    if stage == "model":
        containers = row.document["InferenceSpecification"]["Containers"]
        return validations.model_request(
            row, f"{number}-model", asked["ValidationRole"], containers
        )
    definition = asked["ValidationProfiles"][number]["TransformJobDefinition"]
    return validations.transform_request(row, f"{number}-transform", f"{number}-model", definition)


STAGES = validations.Stages(
    {"model": "Model", "transform": "TransformJob"}, request_of, frozenset({"model"})
)


def _of_algorithm(call: Call, source: dict[str, Any]) -> dict[str, Any]:
    algorithm = source["SourceAlgorithms"][0]
    name = algorithm["AlgorithmName"]
    rows = call.parts.store.rows
    found = rows.by_arn(name) or rows.get(
        "Algorithm", name, account=call.account, region=call.region
    )
    if found is None or found.kind != "Algorithm":
        raise ValidationException(f"Algorithm {name} does not exist.")
    specification: dict[str, Any] = found.document.get("InferenceSpecification") or {}
    if not specification:
        raise ValidationException(f"Algorithm {name} has no InferenceSpecification.")
    data = {"ModelDataUrl": algorithm["ModelDataUrl"]} if algorithm.get("ModelDataUrl") else {}
    containers = [{**one, **data} for one in specification["Containers"]]
    return {**specification, "Containers": containers}


def _group(call: Call) -> Row:
    given = str(call.input["ModelPackageGroupName"])
    name = given.rsplit("/", 1)[-1]
    row = call.parts.store.rows.get(GROUP, name, account=call.account, region=call.region)
    if row is None:
        bound = call.parts.bound(GROUP)
        raise bound.missing_error(name, arn_of(bound, call, "", name))
    return row


def next_version(call: Call) -> str:
    """`group/version`; the group counts, so that the number of a deleted version is never given again.

    A request that is sent again after its answer was lost, with its token, is of the same version.
    """
    token = call.input.get("ClientToken") or ""
    for _ in range(ATTEMPTS_MAX):
        group = _group(call)
        tokens: dict[str, str] = group.state.get("tokens", {})
        if token in tokens and _row(call, tokens[token]) is not None:
            return tokens[token]
        version = int(group.state.get("versions", 0)) + 1
        name = f"{group.name}/{version}"
        group.state["versions"] = version
        if token:
            latest = list(tokens.items())[-TOKENS_KEPT:]
            group.state["tokens"] = {**dict(latest), token: name}
        try:
            call.parts.store.rows.update(group, touch=False)
        except RowChanged:
            continue
        return name
    raise ConflictException(
        f"Too many versions of {call.input['ModelPackageGroupName']} are made at once. Try again."
    )


def _row(call: Call, name: str) -> Row | None:
    return call.parts.store.rows.get(KIND, name, account=call.account, region=call.region)


def version_of(row: Row) -> int | None:
    return int(row.name.rpartition("/")[2]) if _is_version(row) else None


def _is_version(row: Row) -> bool:
    return bool(row.document.get("ModelPackageGroupName"))


def _own_name(row: Row) -> str | None:
    """Describe tells a name of versions as well: the group's, since a version has none."""
    return row.document.get("ModelPackageGroupName") or row.name


def _status(row: Row) -> str:
    return row.status or "Completed"  # of packages that were made before there was validation


def _details(row: Row) -> dict[str, Any]:
    return {"ValidationStatuses": validations.told(row), "ImageScanStatuses": []}


def _has_type(call: Call, row: Row, wanted: str) -> bool:
    return wanted == "Both" or (wanted == "Versioned") == _is_version(row)


def _in_group(call: Call, row: Row, group: str) -> bool:
    return row.document.get("ModelPackageGroupName") == group.rsplit("/", 1)[-1]


model_package = Resource(
    KIND,
    lifecycle=validations.LIFECYCLE,
    plan=STAGES.plan,
    children=STAGES.children(),
    takes_slots=False,
    sorts=("created", False),
    identifier=next_version,
    computed={
        "ModelPackageName": _own_name,
        "ModelPackageVersion": version_of,
        "ModelPackageStatus": _status,
        "ModelPackageStatusDetails": _details,
    },
    filters={"ModelPackageType": _has_type, "ModelPackageGroupName": _in_group},
    admits=(one_name_or_a_group, containers_are_named, validation_can_be_run),
    missing=ValidationException("ModelPackage {arn} does not exist."),
    taken=ConflictException("Model Package already exists: {arn}"),
)


@model_package.operation("CreateModelPackage")
def create_model_package(call: Call) -> dict[str, Any]:
    """Without validation it is Completed at once."""
    begun = validations.begun(
        [(one["ProfileName"], ("model", "transform")) for one in _profiles(call.input)]
    )
    state = {"validations": begun} if begun else None
    return create(call.parts.bound(KIND), call, state, status="" if begun else "Completed")


@model_package.operation("DescribeModelPackage")
def describe_model_package(call: Call) -> dict[str, Any]:
    bound = call.parts.bound(KIND)
    return described(bound, find_package(bound, call))


@model_package.operation("ListModelPackages")
def list_model_packages(call: Call) -> dict[str, Any]:
    """Packages with a name of their own, unless a group or a type is asked for, as the API documents."""
    from_group = call.input.get("ModelPackageGroupName")
    if from_group:
        _group(call)
    call.input.setdefault("ModelPackageType", "Versioned" if from_group else "Unversioned")
    return list_resources(call.parts.bound(KIND), call)


@model_package.operation("UpdateModelPackage")
def update_model_package(call: Call) -> dict[str, Any]:
    bound = call.parts.bound(KIND)
    request = {name: value for name, value in call.input.items() if name != "ModelPackageArn"}
    added: list[dict[str, Any]] = request.pop(f"{SPECIFICATIONS}ToAdd", [])
    changes = update_members(bound, request)
    for _ in range(ATTEMPTS_MAX):
        row = find_package(bound, call, "ModelPackageArn")
        if request.get("ModelApprovalStatus") and not _is_version(row):
            raise ValidationException(f"{row.arn} is not versioned: it has no approval status.")
        changes(row)
        if added:
            row.document[SPECIFICATIONS] = _with_added(row, added)
        row.state["modified_by"] = call.principal.arn
        try:
            call.parts.store.rows.update(row)
        except RowChanged:
            continue
        return described(bound, row, "Update")
    raise ConflictException("The model package is being changed by another request. Try again.")


def _with_added(row: Row, added: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known: list[dict[str, Any]] = row.document.get(SPECIFICATIONS) or []
    names = {one["Name"] for one in known}
    for one in added:
        if one["Name"] in names:
            raise ValidationException(
                f"{row.arn} already has an additional inference specification {one['Name']}."
            )
    return [*known, *added]


@model_package.operation("DeleteModelPackage")
def delete_model_package(call: Call) -> dict[str, Any]:
    delete_row(call.parts.bound(KIND), call, _require_settled, find_package)
    return {}


def _require_settled(row: Row) -> None:
    if _status(row) in ("Pending", "InProgress"):
        raise ConflictException(
            f"{row.arn} is being validated. Delete it once its ModelPackageStatus is Completed or "
            "Failed."
        )


def find_package(bound: BoundResource, call: Call, member: str = "ModelPackageName") -> Row:
    """By ARN, by name, or by `group/version`."""
    given = str(call.input[member])
    arn = Arn.parse(given)
    rows = call.parts.store.rows
    if arn is None:
        row = _row(call, given)
    else:
        row = rows.by_arn(given)
    if row is None or (row.kind, row.account, row.region) != (KIND, call.account, call.region):
        raise bound.missing_error(given, given if arn else arn_of(bound, call, "", given))
    return row
