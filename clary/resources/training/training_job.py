"""A training job runs one algorithm once and keeps what it learned."""

from __future__ import annotations

import json
from typing import Any

from clary.engine.call import Call, Parts
from clary.engine.host_specs import Work, host_specs
from clary.engine.quotas import require_instances
from clary.engine.resource import Resource
from clary.engine.s3_inputs import require_objects
from clary.images.image import UnknownImage
from clary.model.errors import ResourceInUse, ValidationException
from clary.model.s3_uris import join_s3_uri
from clary.reconcile.jobs import JobPlan
from clary.reconcile.lifecycles import JOB
from clary.resources.training.training_job_form import LOG_GROUP, TrainingJobForm
from clary.store.rows import Row

RUNTIME_SECONDS_DEFAULT = 86_400
FORM = TrainingJobForm()


def algorithm_or_image_not_both(call: Call) -> None:
    specification = call.input.get("AlgorithmSpecification") or {}
    named = [name for name in ("AlgorithmName", "TrainingImage") if specification.get(name)]
    if len(named) != 1:
        raise ValidationException(
            "You must specify either AlgorithmName or TrainingImage in AlgorithmSpecification, "
            "but not both."
        )
    if "AlgorithmName" in named:
        raise ValidationException(
            "Training with an algorithm resource (AlgorithmName) is not built yet in this version "
            "of Clary; give the TrainingImage."
        )


def instances_are_asked_for(call: Call) -> None:
    config = call.input.get("ResourceConfig")
    if not config or not (config.get("InstanceGroups") or config.get("InstanceType")):
        raise ValidationException(
            "ResourceConfig must give InstanceType and InstanceCount, or InstanceGroups."
        )
    if "StoppingCondition" not in call.input:
        call.input["StoppingCondition"] = {}
    call.input["StoppingCondition"].setdefault("MaxRuntimeInSeconds", RUNTIME_SECONDS_DEFAULT)


def instances_are_within_the_quota(call: Call) -> None:
    config = call.input["ResourceConfig"]
    groups = config.get("InstanceGroups") or [config]
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


def channels_are_named_once(call: Call) -> None:
    names = [channel["ChannelName"] for channel in call.input.get("InputDataConfig") or []]
    for name in names:
        if names.count(name) > 1:
            raise ValidationException(f"Duplicate channel name '{name}' in InputDataConfig.")


def input_objects_exist(call: Call) -> None:
    """An input prefix without objects is refused when the job is made, as SageMaker does."""
    for channel in call.input.get("InputDataConfig") or []:
        source = channel["DataSource"].get("S3DataSource")
        if source is not None:
            require_objects(call, source["S3Uri"])


def with_metric_definitions(call: Call) -> None:
    """For built-in algorithms the service fills in the metrics; hyperparameters are checked with their schema."""
    specification = call.input["AlgorithmSpecification"]
    try:
        image = call.parts.image(specification["TrainingImage"])
    except UnknownImage:
        return  # the job will fail with the remedies in its FailureReason
    script = "sagemaker_program" in (call.input.get("HyperParameters") or {})
    if image.algorithm and not script and not specification.get("MetricDefinitions"):
        specification["MetricDefinitions"] = [dict(one) for one in image.metric_definitions]


def hosts(row: Row, keys: tuple[str, ...], parts: Parts) -> list[dict[str, Any]]:
    document = row.document
    specification = document["AlgorithmSpecification"]
    image = parts.image(specification["TrainingImage"])
    everyone = FORM.hosts(row)
    checkpoints = document.get("CheckpointConfig")
    begun = int(row.created)
    work = Work(
        role_arn=document["RoleArn"],
        image=image,
        argv=_argv(specification, image.commands["train"]),
        environment={
            "TRAINING_JOB_NAME": row.name,
            "TRAINING_JOB_ARN": row.arn,
            **document.get("Environment", {}),
        },
        hosts=everyone,
        inputs=[
            _input(channel, specification) for channel in document.get("InputDataConfig") or []
        ],
        outputs=_outputs(row),
        files=lambda host: _files(row, host, everyone),
        stream=lambda host: f"{row.name}/{host}-{begun}",
        log_group=LOG_GROUP,
        metrics=specification.get("MetricDefinitions") or [],
        metric_namespace=LOG_GROUP,
        metric_dimensions={"TrainingJobName": row.name},
        checkpoints=_checkpoints(checkpoints) if checkpoints else None,
        seconds_max=document["StoppingCondition"]["MaxRuntimeInSeconds"],
        network_isolation=bool(document.get("EnableNetworkIsolation")),
    )
    return host_specs(row, keys, parts, work)


def _argv(specification: dict[str, Any], train: Any) -> tuple[str, ...]:
    """ContainerEntrypoint and ContainerArguments replace the image's entry point and its `train` as with Docker."""
    entrypoint = specification.get("ContainerEntrypoint")
    arguments = specification.get("ContainerArguments")
    if entrypoint:
        return (*entrypoint, *(arguments or ()))
    return (
        (*train.argv, *(arguments or ())) if train is not None else tuple(arguments or ("train",))
    )


def _input(channel: dict[str, Any], specification: dict[str, Any]) -> dict[str, Any]:
    source = channel["DataSource"]["S3DataSource"]
    return {
        "name": channel["ChannelName"],
        "uri": source["S3Uri"],
        "type": source["S3DataType"],
        "target": f"input/data/{channel['ChannelName']}",
        "mode": channel.get("InputMode") or specification["TrainingInputMode"],
        "distribution": source.get("S3DataDistributionType") or "FullyReplicated",
        "compression": channel.get("CompressionType") or "None",
        "unpack": False,
        "record_wrapper": channel.get("RecordWrapperType") or "None",
        "attributes": source.get("AttributeNames") or [],
        "shuffle_seed": (channel.get("ShuffleConfig") or {}).get("Seed"),
    }


def _outputs(row: Row) -> list[dict[str, Any]]:
    config = row.document["OutputDataConfig"]
    folder = join_s3_uri(config["S3OutputPath"], row.name, "output")
    loose = config.get("CompressionType") == "NONE"
    key = config.get("KmsKeyId") or None
    model = f"{folder}/model/" if loose else f"{folder}/model.tar.gz"
    data = f"{folder}/data/" if loose else f"{folder}/output.tar.gz"
    form = "tree" if loose else "tar.gz"
    ended = ["success", "stopped"]
    common = {"form": form, "when": "end", "kms_key_id": key}
    return [
        {**common, "name": "model", "source": "model", "uri": model, "on": ended, "required": True},
        {
            **common,
            "name": "data",
            "source": "output/data",
            "uri": data,
            "on": [*ended, "failure"],
            "required": False,
        },
    ]


def _checkpoints(config: dict[str, Any]) -> dict[str, str]:
    return {"uri": config["S3Uri"], "path": config.get("LocalPath") or "/opt/ml/checkpoints"}


def _files(row: Row, host: str, everyone: tuple[str, ...]) -> dict[str, str]:
    document = row.document
    config = document["ResourceConfig"]
    channels = {
        channel["ChannelName"]: _channel_config(channel, document["AlgorithmSpecification"])
        for channel in document.get("InputDataConfig") or []
    }
    files = {
        "hyperparameters": document.get("HyperParameters") or {},
        "inputdataconfig": channels,
        "resourceconfig": resource_config(config, host, everyone),
    }
    checkpoints = document.get("CheckpointConfig")
    if checkpoints:
        files["checkpointconfig"] = {"LocalPath": _checkpoints(checkpoints)["path"]}
    return {f"input/config/{name}.json": json.dumps(value) for name, value in files.items()}


def _channel_config(channel: dict[str, Any], specification: dict[str, Any]) -> dict[str, str]:
    source = channel["DataSource"].get("S3DataSource") or {}
    config = {
        "TrainingInputMode": channel.get("InputMode") or specification["TrainingInputMode"],
        "S3DistributionType": source.get("S3DataDistributionType") or "FullyReplicated",
        "RecordWrapperType": channel.get("RecordWrapperType") or "None",
    }
    for member in ("ContentType", "CompressionType"):
        if channel.get(member):
            config[member] = channel[member]
    return config


def resource_config(config: dict[str, Any], host: str, everyone: tuple[str, ...]) -> dict[str, Any]:
    """resourceconfig.json; several instance groups share the hosts in their order."""
    groups = config.get("InstanceGroups") or [
        {
            "InstanceGroupName": "homogeneousCluster",
            "InstanceType": config.get("InstanceType"),
            "InstanceCount": len(everyone),
        }
    ]
    left = list(everyone)
    shown: list[dict[str, Any]] = []
    for group in groups:
        members, left = left[: group["InstanceCount"]], left[group["InstanceCount"] :]
        shown.append(
            {
                "instance_group_name": group["InstanceGroupName"],
                "instance_type": group["InstanceType"],
                "hosts": members,
            }
        )
    own = next(group for group in shown if host in group["hosts"])
    return {
        "current_host": host,
        "current_instance_type": own["instance_type"],
        "current_group_name": own["instance_group_name"],
        "hosts": sorted(everyone),
        "instance_groups": shown,
        "network_interface_name": "lo",
    }


def _output_config(row: Row) -> dict[str, Any]:
    """The SDK's `attach` reads KmsKeyId without asking whether it is there."""
    return {"KmsKeyId": "", **row.document["OutputDataConfig"]}


def _model_artifacts(row: Row) -> dict[str, Any]:
    """Told from the start, as the place where the artifact will be."""
    return row.document.get("ModelArtifacts") or {"S3ModelArtifacts": _outputs(row)[0]["uri"]}


training_job = Resource(
    "TrainingJob",
    lifecycle=JOB,
    defaults={
        "SecondaryStatus": "Starting",
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
    },
    computed={"ModelArtifacts": _model_artifacts, "OutputDataConfig": _output_config},
    admits=(
        algorithm_or_image_not_both,
        instances_are_asked_for,
        instances_are_within_the_quota,
        spot_waits_long_enough,
        channels_are_named_once,
        input_objects_exist,
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
    verbs=("Create", "Describe", "List", "Delete", "Stop"),
    plan=JobPlan(FORM),
    hosts=hosts,
    images=lambda row: (row.document["AlgorithmSpecification"]["TrainingImage"],),
)
