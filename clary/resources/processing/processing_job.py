"""A processing job runs a program once over files from S3 and keeps the files it writes."""

from __future__ import annotations

import json
from typing import Any

from clary.engine.call import Call, Parts
from clary.engine.host_specs import Work, host_specs
from clary.engine.quotas import require_instances
from clary.engine.resource import Resource
from clary.engine.s3_inputs import require_objects
from clary.model.errors import NotImplementedException, ResourceInUse, ValidationException
from clary.reconcile.jobs import JobPlan
from clary.reconcile.lifecycles import JOB
from clary.resources.processing.processing_job_form import LOG_GROUP, ProcessingJobForm
from clary.store.rows import Row

RUNTIME_SECONDS_DEFAULT = 86_400
ROOT = "/opt/ml/"
LOCAL_ROOT = "/opt/ml/processing/"
FORM = ProcessingJobForm()


def with_defaults(call: Call) -> None:
    condition = call.input.setdefault("StoppingCondition", {})
    condition.setdefault("MaxRuntimeInSeconds", RUNTIME_SECONDS_DEFAULT)
    for one in call.input.get("ProcessingInputs") or []:
        source = one.get("S3Input")
        if source is not None:
            source.setdefault("S3DataDistributionType", "FullyReplicated")
            source.setdefault("S3InputMode", "File")
            source.setdefault("S3CompressionType", "None")


def instances_are_within_the_quota(call: Call) -> None:
    cluster = call.input["ProcessingResources"]["ClusterConfig"]
    if "InstanceType" not in cluster or "InstanceCount" not in cluster:
        raise ValidationException(
            "ProcessingResources.ClusterConfig must give an InstanceType and an InstanceCount."
        )
    require_instances(cluster["InstanceType"], cluster["InstanceCount"], "processing job")


def names_are_given_once(call: Call) -> None:
    outputs = (call.input.get("ProcessingOutputConfig") or {}).get("Outputs") or []
    names = [one["InputName"] for one in call.input.get("ProcessingInputs") or []]
    names += [one["OutputName"] for one in outputs]
    for name in names:
        if names.count(name) > 1:
            raise ValidationException(f"Input and output names must be unique: '{name}' is not.")


def local_paths_are_below_processing(call: Call) -> None:
    outputs = (call.input.get("ProcessingOutputConfig") or {}).get("Outputs") or []
    places = [
        one["S3Input"] for one in call.input.get("ProcessingInputs") or [] if "S3Input" in one
    ]
    places += [one["S3Output"] for one in outputs if "S3Output" in one]
    for place in places:
        path = place.get("LocalPath", LOCAL_ROOT)
        if not path.startswith(LOCAL_ROOT.rstrip("/")) or ".." in path.split("/"):
            raise ValidationException(
                f"LocalPath '{path}' is not valid: it must be below {LOCAL_ROOT.rstrip('/')}."
            )


def inputs_are_of_s3(call: Call) -> None:
    for one in call.input.get("ProcessingInputs") or []:
        if "S3Input" not in one:
            raise NotImplementedException(
                f"Processing input '{one['InputName']}' has a DatasetDefinition, which is not built "
                "yet in this version of Clary; give an S3Input."
            )


def input_objects_exist(call: Call) -> None:
    for one in call.input.get("ProcessingInputs") or []:
        require_objects(call, one["S3Input"]["S3Uri"])


def hosts(row: Row, keys: tuple[str, ...], parts: Parts) -> list[dict[str, Any]]:
    document = row.document
    everyone = FORM.hosts(row)
    specification = document["AppSpecification"]
    image = parts.image(specification["ImageUri"])
    begun = int(row.created)
    network = document.get("NetworkConfig") or {}
    work = Work(
        role_arn=document["RoleArn"],
        image=image,
        argv=_argv(row, image.commands.get("process")),
        entry_point=bool(specification.get("ContainerEntrypoint")),
        environment={
            "PROCESSING_JOB_NAME": row.name,
            "PROCESSING_JOB_ARN": row.arn,
            **document.get("Environment", {}),
        },
        hosts=everyone,
        inputs=[_input(one) for one in document.get("ProcessingInputs") or [] if _is_ours(one)],
        outputs=_outputs(document.get("ProcessingOutputConfig") or {}),
        files=lambda host: _files(row, host, everyone),
        stream=lambda host: f"{row.name}/{host}-{begun}",
        log_group=LOG_GROUP,
        seconds_max=document["StoppingCondition"]["MaxRuntimeInSeconds"],
        instance_type=lambda _: document["ProcessingResources"]["ClusterConfig"]["InstanceType"],
        network_isolation=bool(network.get("EnableNetworkIsolation")),
        message_file="output/message",
    )
    return host_specs(row, keys, parts, work)


def _argv(row: Row, process: Any) -> tuple[str, ...]:
    specification = row.document["AppSpecification"]
    entrypoint = specification.get("ContainerEntrypoint")
    arguments = tuple(specification.get("ContainerArguments") or ())
    if entrypoint:
        return (*entrypoint, *arguments)
    return (*process.argv, *arguments) if process is not None else arguments


def program_is_named(call: Call) -> None:
    """An image without an entry point of its own needs one in the request."""
    specification = call.input["AppSpecification"]
    if not specification.get("ContainerEntrypoint") and not specification.get("ContainerArguments"):
        repository = specification["ImageUri"].rsplit("/", 1)[-1].split(":")[0]
        if repository in ("sagemaker-scikit-learn", "sagemaker-xgboost", "xgboost"):
            raise ValidationException(
                f"The image {repository} has no entry point for processing: give "
                "AppSpecification.ContainerEntrypoint, as ScriptProcessor does."
            )


def _is_ours(one: dict[str, Any]) -> bool:
    """AppManaged inputs are fetched by the program itself."""
    return not one.get("AppManaged") and "S3Input" in one


def _input(one: dict[str, Any]) -> dict[str, Any]:
    source = one["S3Input"]
    return {
        "name": one["InputName"],
        "uri": source["S3Uri"],
        "type": source["S3DataType"],
        "target": (source.get("LocalPath") or LOCAL_ROOT).removeprefix(ROOT).strip("/"),
        "mode": source["S3InputMode"],
        "distribution": source["S3DataDistributionType"],
        "compression": source["S3CompressionType"],
        "unpack": False,
        "record_wrapper": "None",
        "attributes": [],
        "shuffle_seed": None,
    }


def _outputs(config: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": one["OutputName"],
            "source": one["S3Output"]["LocalPath"].removeprefix(ROOT).strip("/"),
            "uri": one["S3Output"]["S3Uri"],
            "form": "tree",
            "when": "continuous" if one["S3Output"]["S3UploadMode"] == "Continuous" else "end",
            "on": ["success"],
            "required": False,
            "kms_key_id": config.get("KmsKeyId"),
        }
        for one in config.get("Outputs") or []
        if not one.get("AppManaged") and "S3Output" in one
    ]


def _files(row: Row, host: str, everyone: tuple[str, ...]) -> dict[str, str]:
    document = row.document
    cluster = document["ProcessingResources"]["ClusterConfig"]
    members = (
        "ProcessingInputs",
        "ProcessingOutputConfig",
        "ProcessingResources",
        "StoppingCondition",
        "AppSpecification",
        "Environment",
        "NetworkConfig",
        "RoleArn",
        "ExperimentConfig",
    )
    # The file spells absent members as null, and programs read them so.
    job: dict[str, Any] = {"ProcessingJobArn": row.arn, "ProcessingJobName": row.name}
    job.update({member: document.get(member) for member in members})
    resources = {
        "current_host": host,
        "current_instance_type": cluster["InstanceType"],
        "current_group_name": "homogeneousCluster",
        "hosts": sorted(everyone),
        "instance_groups": [
            {
                "instance_group_name": "homogeneousCluster",
                "instance_type": cluster["InstanceType"],
                "hosts": sorted(everyone),
            }
        ],
        "network_interface_name": "lo",
    }
    return {
        "config/processingjobconfig.json": json.dumps(job),
        "config/resourceconfig.json": json.dumps(resources),
    }


processing_job = Resource(
    "ProcessingJob",
    lifecycle=JOB,
    admits=(
        with_defaults,
        instances_are_within_the_quota,
        names_are_given_once,
        local_paths_are_below_processing,
        inputs_are_of_s3,
        program_is_named,
        input_objects_exist,
    ),
    missing=ValidationException("Could not find requested job with name: {name}"),
    taken=ResourceInUse(
        "Job name must be unique within an AWS account and region, and a job with this name "
        "already exists ({arn})"
    ),
    verbs=("Create", "Describe", "List", "Delete", "Stop"),
    plan=JobPlan(FORM),
    hosts=hosts,
    images=lambda row: (row.document["AppSpecification"]["ImageUri"],),
)
