"""The training jobs of a tuning job: the request that makes one, and what its row tells the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.engine.call import Parts
from clary.engine.children import Child, Children
from clary.model.s3_uris import join_s3_uri
from clary.resources.tuning.definitions import definitions_of
from clary.resources.tuning.trials import CURVE_MAX, Trial, trials_of
from clary.store import metric_data
from clary.store.rows import Row

KIND = "TrainingJob"
NAMESPACE = "/aws/sagemaker/TrainingJobs"
OBJECTIVE = "_tuning_objective_metric"
# Members of a definition that a training job takes as they are.
SAME = (
    "RoleArn",
    "InputDataConfig",
    "VpcConfig",
    "OutputDataConfig",
    "StoppingCondition",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "RetryStrategy",
    "Environment",
)


def child(row: Row, key: str) -> Child:
    return Child(KIND, key, lambda: request_of(row, _trial(row, key)))


def request_of(row: Row, trial: Trial) -> dict[str, Any]:
    """The CreateTrainingJob of a trial."""
    definition = definitions_of(row.document)[trial.definition]
    given = definition.given
    specification = dict(given["AlgorithmSpecification"])
    metrics = row.state["metrics"][trial.definition]
    if metrics:
        specification["MetricDefinitions"] = metrics
    request = {member: given[member] for member in SAME if given.get(member) is not None}
    checkpoints = given.get("CheckpointConfig")
    if checkpoints:
        # Trials must not go on from each other's checkpoints.
        own = join_s3_uri(checkpoints["S3Uri"], trial.name)
        request["CheckpointConfig"] = {**checkpoints, "S3Uri": own}
    return {
        **request,
        "TrainingJobName": trial.name,
        "AlgorithmSpecification": specification,
        "ResourceConfig": resource_config(given),
        "HyperParameters": {
            **definition.static,
            **trial.values,
            OBJECTIVE: definition.objective["MetricName"],
        },
        "Tags": row.tags,
    }


def resource_config(given: Mapping[str, Any]) -> dict[str, Any]:
    """ResourceConfig, or what HyperParameterTuningResourceConfig means: the first of its instances."""
    config = given.get("HyperParameterTuningResourceConfig")
    if not config:
        return dict(given.get("ResourceConfig") or {})
    instances = (config.get("InstanceConfigs") or [config])[0]
    found = {
        "InstanceType": instances.get("InstanceType"),
        "InstanceCount": instances.get("InstanceCount"),
        "VolumeSizeInGB": instances.get("VolumeSizeInGB") or config.get("VolumeSizeInGB"),
        "VolumeKmsKeyId": config.get("VolumeKmsKeyId"),
    }
    return {name: value for name, value in found.items() if value is not None}


def facts(row: Row, job: Row, parts: Parts) -> dict[str, Any]:
    """What a plan may know of a training job."""
    document = job.document
    metric = (document.get("HyperParameters") or {}).get(OBJECTIVE, "")
    found = {
        "arn": job.arn,
        "created": job.created,
        "started": document.get("TrainingStartTime"),
        "ended": document.get("TrainingEndTime"),
        "failure": document.get("FailureReason"),
        "value": _final(document, metric),
    }
    if _is_watched(row):
        found["curve"] = _curve(job, metric, parts)
    return {name: value for name, value in found.items() if value is not None}


CHILDREN = Children(child=child, facts=facts)


def _trial(row: Row, name: str) -> Trial:
    return next(one for one in trials_of(row) if one.name == name)


def _final(document: Mapping[str, Any], metric: str) -> float | None:
    for one in document.get("FinalMetricDataList") or []:
        if one["MetricName"] == metric:
            return one["Value"]
    return None


def _is_watched(row: Row) -> bool:
    config = row.document["HyperParameterTuningJobConfig"]
    early = config.get("TrainingJobEarlyStoppingType") == "Auto"
    return early or config["Strategy"] == "Hyperband"


def _curve(job: Row, metric: str, parts: Parts) -> list[float]:
    """The objective as the job emitted it, value by value."""
    dimensions = (("TrainingJobName", job.name),)
    wanted = metric_data.Metric(job.account, job.region, NAMESPACE, metric, dimensions)
    found = metric_data.find(parts.telemetry, wanted)
    if found is None:
        return []
    end = int(parts.clock()) + 60
    return metric_data.values(parts.telemetry, found, int(job.created) - 60, end)[:CURVE_MAX]
