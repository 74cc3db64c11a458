"""An algorithm resource: a training image with the hyperparameters, channels and instances that it supports."""

from __future__ import annotations

from typing import Any

from clary.engine import validations
from clary.engine.call import Call
from clary.engine.resource import Resource
from clary.engine.verbs import create
from clary.model.errors import ValidationException
from clary.resources.training.algorithm_use import check_value, hyperparameters
from clary.store.rows import Row


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


def validation_can_be_run(call: Call) -> None:
    """A profile that transforms needs to know the containers that serve what was trained."""
    for one in _profiles(call.input):
        if one.get("TransformJobDefinition") and not call.input.get("InferenceSpecification"):
            raise ValidationException(
                f"Validation profile {one['ProfileName']} has a TransformJobDefinition, which needs "
                "the InferenceSpecification of the algorithm."
            )
        given = one["TrainingJobDefinition"].get("HyperParameters") or {}
        hyperparameters(call.input["TrainingSpecification"], given, call.input["AlgorithmName"])


def _profiles(request: dict[str, Any]) -> list[dict[str, Any]]:
    return (request.get("ValidationSpecification") or {}).get("ValidationProfiles") or []


def _stages(profile: dict[str, Any]) -> tuple[str, ...]:
    return ("train", "model", "transform") if "TransformJobDefinition" in profile else ("train",)


def request_of(row: Row, number: int, stage: str) -> dict[str, Any]:
    """The training job of a profile, the model of what it made, and the transform job with that."""
    asked = row.document["ValidationSpecification"]
    profile, role = asked["ValidationProfiles"][number], asked["ValidationRole"]
    if stage == "train":
        return _training_request(row, number, profile["TrainingJobDefinition"], role)
    if stage == "model":
        artifacts = row.state["validations"][number]["facts"].get("artifacts")
        first, *others = row.document["InferenceSpecification"]["Containers"]
        containers = [{**first, "ModelDataUrl": artifacts}, *others]
        return validations.model_request(row, f"{number}-model", role, containers)
    return validations.transform_request(
        row, f"{number}-transform", f"{number}-model", profile["TransformJobDefinition"]
    )


def _training_request(
    row: Row, number: int, definition: dict[str, Any], role: str
) -> dict[str, Any]:
    training = row.document["TrainingSpecification"]
    left = {name: one for name, one in definition.items() if name != "TrainingInputMode"}
    return {
        **left,
        "TrainingJobName": validations.child_name(row, f"{number}-train"),
        "RoleArn": role,
        "HyperParameters": hyperparameters(
            training, definition.get("HyperParameters") or {}, row.name
        ),
        "AlgorithmSpecification": {
            "TrainingImage": training["TrainingImage"],
            "TrainingInputMode": definition["TrainingInputMode"],
            "MetricDefinitions": training.get("MetricDefinitions") or [],
        },
    }


STAGES = validations.Stages(
    {"train": "TrainingJob", "model": "Model", "transform": "TransformJob"},
    request_of,
    frozenset({"model"}),
)


def _details(row: Row) -> dict[str, Any]:
    return {"ValidationStatuses": validations.told(row), "ImageScanStatuses": []}


algorithm = Resource(
    "Algorithm",
    lifecycle=validations.LIFECYCLE,
    computed={"AlgorithmStatusDetails": _details},
    admits=(
        names_are_given_once,
        defaults_are_allowed,
        objectives_are_logged,
        validation_can_be_run,
    ),
    plan=STAGES.plan,
    children=STAGES.children(),
    takes_slots=False,
)


@algorithm.operation("CreateAlgorithm")
def create_algorithm(call: Call) -> dict[str, Any]:
    """Without validation it is Completed at once."""
    begun = validations.begun([(one["ProfileName"], _stages(one)) for one in _profiles(call.input)])
    status = "" if begun else "Completed"
    return create(call.parts.bound("Algorithm"), call, {"validations": begun}, status=status)
