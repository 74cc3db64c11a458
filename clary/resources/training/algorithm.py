"""An algorithm resource: a training image with the hyperparameters, channels and instances that it supports."""

from __future__ import annotations

import hashlib
from typing import Any

from clary.engine import verbs
from clary.engine.call import Call
from clary.engine.naming import find_row
from clary.engine.projection import describe
from clary.engine.resource import BoundResource, Resource
from clary.model.errors import ApiError, NotImplementedException, ValidationException
from clary.reconcile.lifecycles import Lifecycle
from clary.resources.training.algorithm_use import check_value, hyperparameters
from clary.store.rows import Row

LIFECYCLE = Lifecycle(
    "Pending",
    {
        "Pending": frozenset({"InProgress", "Completed", "Failed"}),
        "InProgress": frozenset({"Completed", "Failed"}),
        "Completed": frozenset[str](),
        "Failed": frozenset[str](),
    },
)
_OUTCOMES = {"Completed": "Completed", "Failed": "Failed", "Stopped": "Failed"}


def names_are_given_once(call: Call) -> None:
    specification = call.input["TrainingSpecification"]
    for member in ("SupportedHyperParameters", "TrainingChannels"):
        names = [one["Name"] for one in specification.get(member) or []]
        for name in names:
            if names.count(name) > 1:
                raise ValidationException(f"Duplicate name '{name}' in {member}.")


def defaults_are_allowed(call: Call) -> None:
    for one in call.input["TrainingSpecification"].get("SupportedHyperParameters") or []:
        if "DefaultValue" in one:
            check_value(one, one["DefaultValue"])


def objectives_are_logged(call: Call) -> None:
    specification = call.input["TrainingSpecification"]
    logged = [one["Name"] for one in specification.get("MetricDefinitions") or []]
    for one in specification.get("SupportedTuningJobObjectiveMetrics") or []:
        if one["MetricName"] not in logged:
            raise ValidationException(
                f"SupportedTuningJobObjectiveMetrics holds '{one['MetricName']}', which is not "
                "among the MetricDefinitions."
            )


def validation_is_by_training(call: Call) -> None:
    for profile in (call.input.get("ValidationSpecification") or {}).get(
        "ValidationProfiles"
    ) or []:
        if profile.get("TransformJobDefinition"):
            raise NotImplementedException(
                "Validating an algorithm with a TransformJobDefinition is not built in this version "
                "of Clary; give a TrainingJobDefinition alone."
            )


def _details(row: Row) -> dict[str, Any]:
    told = [
        {name: value for name, value in one.items() if name != "job"}
        for one in row.state.get("validations") or []
    ]
    return {"ValidationStatuses": told, "ImageScanStatuses": []}


algorithm = Resource(
    "Algorithm",
    lifecycle=LIFECYCLE,
    computed={"AlgorithmStatusDetails": _details},
    admits=(
        names_are_given_once,
        defaults_are_allowed,
        objectives_are_logged,
        validation_is_by_training,
    ),
    verbs=("List",),
)


@algorithm.operation("CreateAlgorithm")
def create_algorithm(call: Call) -> dict[str, Any]:
    bound = call.parts.bound("Algorithm")
    answer = verbs.create(bound, call)
    asked = call.input.get("ValidationSpecification") or {}
    validations = [
        _validate(call, asked["ValidationRole"], profile)
        for profile in asked.get("ValidationProfiles") or []
    ]

    def begin(row: Row) -> None:
        row.state["validations"] = validations
        row.status = _status(validations)

    verbs.change_row(bound, call, begin)
    return answer


@algorithm.operation("DescribeAlgorithm")
def describe_algorithm(call: Call) -> dict[str, Any]:
    bound = call.parts.bound("Algorithm")
    return describe(bound, _refreshed(bound, call))


@algorithm.operation("DeleteAlgorithm")
def delete_algorithm(call: Call) -> dict[str, Any]:
    bound = call.parts.bound("Algorithm")
    _refreshed(bound, call)
    return verbs.delete(bound, call)


def _validate(call: Call, role: str, profile: dict[str, Any]) -> dict[str, Any]:
    """Start the training job of one profile; a refusal is its result."""
    name = call.input["AlgorithmName"]
    training = call.input["TrainingSpecification"]
    definition = dict(profile["TrainingJobDefinition"])
    digest = hashlib.sha256(f"{name} {profile['ProfileName']} {call.time}".encode()).hexdigest()
    job = f"{name[:40].rstrip('-')}-validation-{digest[:10]}"
    told = {"Name": profile["ProfileName"], "Status": "InProgress"}
    try:
        values = hyperparameters(training, definition.pop("HyperParameters", {}), name)
        request = {
            **definition,
            "TrainingJobName": job,
            "RoleArn": role,
            "HyperParameters": values,
            "AlgorithmSpecification": {
                "TrainingImage": training["TrainingImage"],
                "TrainingInputMode": definition.pop("TrainingInputMode"),
                "MetricDefinitions": training.get("MetricDefinitions") or [],
            },
        }
        request.pop("TrainingInputMode", None)
        call.parts.call(
            "sagemaker",
            "CreateTrainingJob",
            request,
            principal=call.principal,
            region=call.region,
        )
    except ApiError as refusal:
        return {**told, "Status": "Failed", "FailureReason": refusal.message}
    return {**told, "job": job}


def _refreshed(bound: BoundResource, call: Call) -> Row:
    """The algorithm, its validation looked up where it was still under way."""
    row = find_row(bound, call)
    if row.status != "InProgress":
        return row
    fresh = [_looked_up(call, one) for one in row.state["validations"]]
    if fresh == row.state["validations"]:
        return row

    def note(changed: Row) -> None:
        changed.state["validations"] = fresh
        changed.status = _status(fresh)

    return verbs.change_row(bound, call, note)


def _looked_up(call: Call, told: dict[str, Any]) -> dict[str, Any]:
    if told["Status"] != "InProgress":
        return told
    job = call.parts.store.rows.get(
        "TrainingJob", told["job"], account=call.account, region=call.region
    )
    if job is None:
        return {**told, "Status": "Failed", "FailureReason": "Its training job was deleted."}
    status = _OUTCOMES.get(job.status, "InProgress")
    reason = job.document.get("FailureReason") or f"Its training job is {job.status}."
    return {**told, "Status": status, **({"FailureReason": reason} if status == "Failed" else {})}


def _status(validations: list[dict[str, Any]]) -> str:
    states = {one["Status"] for one in validations}
    if "Failed" in states:
        return "Failed"
    return "InProgress" if "InProgress" in states else "Completed"
