"""An inference experiment runs a shadow variant beside a production variant of an endpoint for a while.

    Creating ─▶ Created ─▶ Starting ─▶ Running ─▶ Stopping ─▶ Completed | Cancelled
                              the endpoint is updated │ Updating
What is done to the endpoint, and when, is in `inference_experiment_course`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.engine.call import Call
from clary.engine.listing import list_resources
from clary.engine.naming import find_row
from clary.engine.projection import describe as described
from clary.engine.resource import Resource
from clary.engine.verbs import as_kept, change_row, create, delete_row, update_members
from clary.model.errors import ConflictException, ValidationException
from clary.model.s3_uris import parse_s3_uri
from clary.reconcile.lifecycles import Lifecycle
from clary.resources.inference.inference_experiment_variants import (
    check_actions,
    check_variants,
    merged_variants,
    variant_statuses,
)
from clary.store.rows import Row

KIND = "InferenceExperiment"
SECONDS_DEFAULT = 7 * 86_400.0  # "concludes after 7 days", as CreateInferenceExperiment documents
REDEPLOYED = ("ModelVariants", "DataStorageConfig", "ShadowModeConfig")
LIFECYCLE = Lifecycle(
    "Creating",
    {
        "Creating": frozenset(("Created", "Starting", "Cancelled")),
        "Created": frozenset(("Starting", "Cancelled", "Completed")),
        "Starting": frozenset(("Running", "Cancelled")),
        "Running": frozenset(("Updating", "Stopping")),
        "Updating": frozenset(("Running",)),
        "Stopping": frozenset(("Completed", "Cancelled")),
        "Completed": frozenset(),
        "Cancelled": frozenset(),
    },
)


def variants_fit_the_mode(call: Call) -> None:
    check_variants(call.input)


def models_of_variants_exist(call: Call) -> None:
    _require_models(call, call.input.get("ModelVariants") or ())


def _require_models(call: Call, variants: Any) -> None:
    for variant in variants:
        name = variant["ModelName"]
        found = call.parts.store.rows.get("Model", name, account=call.account, region=call.region)
        if found is None:
            arn = f"arn:aws:sagemaker:{call.region}:{call.account}:model/{name}"
            raise ValidationException(f'Could not find model "{arn}".')


def data_go_to_s3(call: Call) -> None:
    storage = call.input.get("DataStorageConfig")
    if storage:
        parse_s3_uri(storage["Destination"])


def with_schedule(call: Call) -> None:
    call.input["Schedule"] = _schedule(as_kept(call.input.get("Schedule") or {}), call.time)


def _schedule(given: Mapping[str, Any], now: float) -> dict[str, float]:
    start = float(given.get("StartTime") or now)
    end = float(given.get("EndTime") or start + SECONDS_DEFAULT)
    if end <= max(start, now):
        raise ValidationException(
            "The EndTime of an inference experiment must be after its StartTime and in the future."
        )
    return {"StartTime": start, "EndTime": end}


inference_experiment = Resource(
    KIND,
    lifecycle=LIFECYCLE,
    computed={
        "Arn": lambda row: row.arn,
        "CompletionTime": lambda row: row.state.get("completed"),
    },
    admits=(variants_fit_the_mode, models_of_variants_exist, data_go_to_s3, with_schedule),
)


@inference_experiment.operation("CreateInferenceExperiment")
def create_inference_experiment(call: Call) -> dict[str, Any]:
    return create(call.parts.bound(KIND), call)


@inference_experiment.operation("DescribeInferenceExperiment")
def describe_inference_experiment(call: Call) -> dict[str, Any]:
    bound = call.parts.bound(KIND)
    row = find_row(bound, call)
    name = row.document["EndpointName"]
    endpoint = call.parts.store.rows.get("Endpoint", name, account=row.account, region=row.region)
    metadata = {"EndpointName": name}
    if endpoint is not None:
        metadata["EndpointConfigName"] = endpoint.document["EndpointConfigName"]
        metadata["EndpointStatus"] = endpoint.status
        if endpoint.document.get("FailureReason"):
            metadata["FailureReason"] = endpoint.document["FailureReason"]
    statuses = variant_statuses(row)
    variants = [
        {**one, "Status": statuses[one["VariantName"]]} for one in row.document["ModelVariants"]
    ]
    return {**described(bound, row), "EndpointMetadata": metadata, "ModelVariants": variants}


@inference_experiment.operation("ListInferenceExperiments")
def list_inference_experiments(call: Call) -> dict[str, Any]:
    return list_resources(call.parts.bound(KIND), call)


@inference_experiment.operation("UpdateInferenceExperiment")
def update_inference_experiment(call: Call) -> dict[str, Any]:
    bound = call.parts.bound(KIND)
    data_go_to_s3(call)
    models_of_variants_exist(call)
    changes = update_members(bound, call.input)

    def change(row: Row) -> None:
        if row.status not in ("Created", "Running"):
            raise _conflict(row, "updated")
        before = row.document
        row.document = {**before}
        changes(row)
        given = as_kept(call.input.get("Schedule") or {})
        if (
            row.status == "Running"
            and given.get("StartTime", before["Schedule"]["StartTime"])
            != (before["Schedule"]["StartTime"])
        ):
            raise ValidationException(
                "Only the EndTime of an experiment that is Running can change."
            )
        row.document["Schedule"] = _schedule({**before["Schedule"], **given}, call.time)
        row.document["ModelVariants"] = merged_variants(before, row.document)
        check_variants(row.document)
        if row.status == "Running" and any(call.input.get(one) for one in REDEPLOYED):
            row.status = "Updating"
            row.state["wanted"] = None

    return described(bound, change_row(bound, call, change), "Update")


@inference_experiment.operation("StartInferenceExperiment")
def start_inference_experiment(call: Call) -> dict[str, Any]:
    def change(row: Row) -> None:
        if row.status != "Created":
            raise _conflict(row, "started")
        row.status = "Starting"
        row.document["Schedule"] = {**row.document["Schedule"], "StartTime": call.time}

    bound = call.parts.bound(KIND)
    return described(bound, change_row(bound, call, change), "Start")


@inference_experiment.operation("StopInferenceExperiment")
def stop_inference_experiment(call: Call) -> dict[str, Any]:
    """One that has not begun ends at once; of one that runs, the endpoint is left as the actions say."""
    given = call.input
    desired = given.get("DesiredState") or "Completed"

    def change(row: Row) -> None:
        actions = check_actions(row.document, given["ModelVariantActions"])
        row.document["StatusReason"] = given.get("Reason")
        if row.status in ("Creating", "Created"):
            row.status = "Cancelled"
            row.state |= {"completed": call.time, "actions": {}}
        elif row.status == "Running":
            row.status = "Stopping"
            after = as_kept(given.get("DesiredModelVariants") or [])
            row.state |= {"actions": actions, "after": after, "desired": desired, "wanted": None}
        else:
            raise _conflict(row, "stopped")

    _require_models(call, given.get("DesiredModelVariants") or ())
    bound = call.parts.bound(KIND)
    return described(bound, change_row(bound, call, change), "Stop")


@inference_experiment.operation("DeleteInferenceExperiment")
def delete_inference_experiment(call: Call) -> dict[str, Any]:
    def is_at_rest(row: Row) -> None:
        if row.status in ("Starting", "Running", "Updating", "Stopping"):
            raise _conflict(row, "deleted")

    bound = call.parts.bound(KIND)
    return described(bound, delete_row(bound, call, is_at_rest), "Delete")


def _conflict(row: Row, verb: str) -> ConflictException:
    return ConflictException(
        f"Inference experiment {row.arn} cannot be {verb} while its status is {row.status}."
    )
