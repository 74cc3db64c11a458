"""A training job runs one algorithm once and keeps what it learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from clary.engine import verbs
from clary.engine.call import Call
from clary.engine.children import owner_in
from clary.engine.naming import arn_of, find_row, name_in
from clary.engine.projection import describe
from clary.engine.quotas import require_instances
from clary.engine.resource import Resource
from clary.images.image import UnknownImage
from clary.model.errors import ResourceInUse, ValidationException
from clary.reconcile.decisions import Decision, Vanish
from clary.reconcile.jobs import JobPlan
from clary.reconcile.lifecycles import JOB
from clary.reconcile.seen import Seen
from clary.resources.training import channels, debug_rules, features, warm_pool
from clary.resources.training.algorithm_use import algorithm_is_used_well, algorithm_of
from clary.resources.training.file_systems import file_systems_are_known
from clary.resources.training.restarts import TrainingRestarts
from clary.resources.training.training_job_hosts import FORM, hosts, image_of, outputs
from clary.store.rows import Row, RowChanged

RUNTIME_SECONDS_DEFAULT = 86_400
RUNTIME_SECONDS_MAX = 28 * 86_400
DELETING = "Deleting"
# A job may be deleted while its hosts' files are still there: the loop removes these, then the row.
LIFECYCLE = replace(JOB, transitions={**JOB.transitions, DELETING: frozenset[str]()})
PLAN = JobPlan(FORM, TrainingRestarts(FORM))


def algorithm_or_image_not_both(call: Call) -> None:
    specification = call.input.get("AlgorithmSpecification") or {}
    named = [name for name in ("AlgorithmName", "TrainingImage") if specification.get(name)]
    if len(named) != 1:
        raise ValidationException(
            "You must specify either AlgorithmName or TrainingImage in AlgorithmSpecification, "
            "but not both."
        )


def instances_are_asked_for(call: Call) -> None:
    config = call.input.get("ResourceConfig")
    if not config or not (config.get("InstanceGroups") or config.get("InstanceType")):
        raise ValidationException(
            "ResourceConfig must give InstanceType and InstanceCount, or InstanceGroups."
        )
    if "StoppingCondition" not in call.input:
        call.input["StoppingCondition"] = {}
    condition = call.input["StoppingCondition"]
    condition.setdefault("MaxRuntimeInSeconds", RUNTIME_SECONDS_DEFAULT)
    if condition["MaxRuntimeInSeconds"] > RUNTIME_SECONDS_MAX:
        raise ValidationException(
            f"MaxRuntimeInSeconds must be at most {RUNTIME_SECONDS_MAX} (28 days), and is "
            f"{condition['MaxRuntimeInSeconds']}."
        )


def instances_are_within_the_quota(call: Call) -> None:
    config = call.input["ResourceConfig"]
    groups = config.get("InstanceGroups") or [config]
    if config.get("InstanceGroups") and (config.get("InstanceType") or config.get("InstanceCount")):
        raise ValidationException(
            "ResourceConfig must give either InstanceGroups, or InstanceType and InstanceCount, "
            "but not both."
        )
    names = [group["InstanceGroupName"] for group in config.get("InstanceGroups") or []]
    for name in names:
        if names.count(name) > 1:
            raise ValidationException(f"Duplicate InstanceGroupName '{name}' in InstanceGroups.")
    total = sum(group.get("InstanceCount") or 1 for group in groups)
    require_instances(groups[0]["InstanceType"], total, "training job")
    for group in groups:
        require_instances(group["InstanceType"], group.get("InstanceCount") or 1, "training job")


def spot_waits_long_enough(call: Call) -> None:
    if not call.input.get("EnableManagedSpotTraining"):
        return
    condition = call.input["StoppingCondition"]
    wait = condition.get("MaxWaitTimeInSeconds")
    if wait is None or wait < condition["MaxRuntimeInSeconds"]:
        raise ValidationException(
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
            "MaxRuntimeInSeconds."
        )


def with_metric_definitions(call: Call) -> None:
    """For built-in algorithms the service fills in the metrics that they log."""
    specification = call.input["AlgorithmSpecification"]
    if "TrainingImage" not in specification:
        return  # an algorithm resource has definitions of its own
    try:
        image = call.parts.image(specification["TrainingImage"])
    except UnknownImage:
        return  # the job will fail with the remedies in its FailureReason
    script = "sagemaker_program" in (call.input.get("HyperParameters") or {})
    if image.algorithm and not script:
        given = specification.get("MetricDefinitions") or []
        names = {one["Name"] for one in given}
        own = [dict(one) for one in image.metric_definitions if one["Name"] not in names]
        specification["MetricDefinitions"] = [*own, *given]


def _output_config(row: Row) -> dict[str, Any]:
    """The SDK's `attach` reads KmsKeyId without asking whether it is there."""
    return {"KmsKeyId": "", **row.document["OutputDataConfig"]}


def _model_artifacts(row: Row) -> dict[str, Any]:
    """Told from the start, as the place where the artifact will be."""
    return row.document.get("ModelArtifacts") or {"S3ModelArtifacts": outputs(row)[0]["uri"]}


def plan(row: Row, seen: Seen) -> Sequence[Decision]:
    return [Vanish()] if row.status == DELETING else PLAN(row, seen)


training_job = Resource(
    "TrainingJob",
    lifecycle=LIFECYCLE,
    defaults={
        "SecondaryStatus": "Starting",
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
    },
    computed={
        "ModelArtifacts": _model_artifacts,
        "OutputDataConfig": _output_config,
        "TuningJobArn": owner_in("hyper-parameter-tuning-job"),
    },
    admits=(
        algorithm_or_image_not_both,
        instances_are_asked_for,
        instances_are_within_the_quota,
        spot_waits_long_enough,
        features.features_are_built,
        algorithm_is_used_well,
        channels.channels_are_named_once,
        channels.channels_make_sense,
        file_systems_are_known,
        channels.input_objects_exist,
        warm_pool.pool_is_possible,
        debug_rules.rules_are_named_once,
        debug_rules.watched_paths_are_below_opt_ml,
        debug_rules.profiler_is_configured_well,
        debug_rules.with_rule_statuses,
        with_metric_definitions,
    ),
    filters={
        "WarmPoolStatusEquals": lambda call, row, status: (
            (row.document.get("WarmPoolStatus") or {}).get("Status") == status
        ),
        "TrainingPlanArnEquals": lambda call, row, arn: (
            row.document["ResourceConfig"].get("TrainingPlanArn") == arn
        ),
    },
    missing=ValidationException("Requested resource not found."),
    taken=ResourceInUse(
        "Training job names must be unique within an AWS account and region, and a training job "
        "with this name already exists ({arn})"
    ),
    verbs=("Describe", "List", "Stop"),
    plan=plan,
    hosts=hosts,
    images=lambda row: (image_of(row),),
)


@training_job.operation("CreateTrainingJob")
def create_training_job(call: Call) -> dict[str, Any]:
    bound = call.parts.bound("TrainingJob")
    settings = call.parts.settings
    state: dict[str, Any] = {}
    if call.input.get("EnableManagedSpotTraining"):
        state["spot_price"] = settings.spot_price
        state["spot_interruption_seconds"] = settings.spot_interruption_seconds
    state.update(algorithm_of(call))
    keeps = bool((call.input.get("ResourceConfig") or {}).get("KeepAlivePeriodInSeconds"))
    if keeps:
        call.input["WarmPoolStatus"] = {"Status": "InUse"}
    name = name_in(bound, call.input)
    arn = arn_of(bound, call, "", name)
    if call.parts.store.rows.by_arn(arn) is None:
        asked = Row(bound.noun, name, arn, call.account, call.region, document=call.input)
        state.update(warm_pool.take(call, asked))
    answer = verbs.create(bound, call, state)
    if keeps:
        warm_pool.open_pool(call, find_row(bound, call))
    return answer


@training_job.operation("UpdateTrainingJob")
def update_training_job(call: Call) -> dict[str, Any]:
    """Only a job that runs, or its warm pool, has anything left to change."""
    bound = call.parts.bound("TrainingJob")
    resources = call.input.pop("ResourceConfig", None)
    changes = verbs.update_members(bound, call.input)

    def change(row: Row) -> None:
        ended = bound.resource.lifecycle.is_terminal(row.status)
        pool = (row.document.get("WarmPoolStatus") or {}).get("Status")
        if ended and (resources is None or pool != "Available"):
            raise ValidationException(
                f"The request was rejected because the training job is in status {row.status}"
                + (" and retains no warm pool." if resources is not None else ".")
            )
        if resources is not None:
            warm_pool.change(row, resources["KeepAlivePeriodInSeconds"], call.time)
        if not ended:
            changes(row)
        if "ProfilerConfig" in call.input or "ProfilerRuleConfigurations" in call.input:
            debug_rules.profiler_statuses(row, call.time)

    debug_rules.profiler_is_configured_well(call)
    row = verbs.change_row(bound, call, change)
    call.parts.wake()
    return describe(bound, row, "Update")


@training_job.operation("DeleteTrainingJob")
def delete_training_job(call: Call) -> dict[str, Any]:
    """Only an ended job goes, and not while it retains a warm pool."""
    bound = call.parts.bound("TrainingJob")
    for _ in range(verbs.ATTEMPTS_MAX):
        row = find_row(bound, call)
        if not bound.resource.lifecycle.is_terminal(row.status):
            raise ResourceInUse(
                f"The training job {row.name} cannot be deleted in status {row.status}: stop it "
                "first, or wait until it has ended."
            )
        if (row.document.get("WarmPoolStatus") or {}).get("Status") == "Available":
            raise ResourceInUse(
                f"The training job {row.name} retains a warm pool: release it first with "
                "UpdateTrainingJob and a KeepAlivePeriodInSeconds of 0."
            )
        try:
            _remove(call, row)
        except RowChanged:
            continue  # the loop wrote first
        return {}
    raise ResourceInUse("The training job is being changed; try again.")


def _remove(call: Call, row: Row) -> None:
    rows = call.parts.store.rows
    gone = verbs.transition(row.status, "Deleted")
    if not row.state.get("hosts"):
        rows.delete(row, gone)
        return
    before, row.status, row.due = row.status, DELETING, call.time
    rows.update(row, verbs.transition(before, DELETING))
    call.parts.wake()
