"""The host specs of a training job: its channels, outputs and configuration files, host by host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clary.engine.call import Parts
from clary.engine.host_specs import Work, host_specs
from clary.images import jumpstart
from clary.model.s3_uris import join_s3_uri
from clary.resources.training import debug_rules, file_systems, warm_pool
from clary.resources.training.channels import s3_uri_of
from clary.resources.training.training_job_form import LOG_GROUP, TrainingJobForm
from clary.store.rows import Row

FORM = TrainingJobForm()


def image_of(row: Row) -> str:
    """The training image, or that of the algorithm resource which the job names.

    A job of JumpStart's script runs in the image of the algorithm that stands for it.
    """
    given = row.document["AlgorithmSpecification"].get("TrainingImage")
    named = given or row.state["training_image"]
    return jumpstart.image_uri(named, row.document.get("HyperParameters"))


def hosts(row: Row, keys: tuple[str, ...], parts: Parts) -> list[dict[str, Any]]:
    document = row.document
    specification = document["AlgorithmSpecification"]
    image = parts.image(image_of(row))
    everyone = FORM.hosts(row)
    checkpoints = document.get("CheckpointConfig")
    begun = int(row.created)
    work = Work(
        role_arn=document["RoleArn"],
        image=image,
        argv=_argv(specification, image.commands["train"]),
        entry_point=bool(specification.get("ContainerEntrypoint")),
        environment={
            "TRAINING_JOB_NAME": row.name,
            "TRAINING_JOB_ARN": row.arn,
            **document.get("Environment", {}),
        },
        hosts=everyone,
        outputs=[*outputs(row), *_watched_outputs(row)],
        files=lambda host: _files(row, host, everyone),
        stream=lambda host: f"{row.name}/{host}-{begun}",
        log_group=LOG_GROUP,
        metrics=specification.get("MetricDefinitions") or row.state.get("metric_definitions") or [],
        metric_namespace=LOG_GROUP,
        metric_dimensions={"TrainingJobName": row.name},
        checkpoints=_checkpoints(checkpoints) if checkpoints else None,
        seconds_max=_seconds_left(row),
        instance_type=lambda host: instance_type(document["ResourceConfig"], host, everyone),
        memory_bytes=parts.settings.job_memory_bytes or None,
        network_isolation=bool(document.get("EnableNetworkIsolation")),
    )
    warm_pool.bring_cache(row, keys, parts)
    specs = host_specs(row, keys, parts, work)
    for spec in specs:
        _complete(row, spec, parts)
    return specs


def _complete(row: Row, spec: dict[str, Any], parts: Parts) -> None:
    """What differs from host to host, or is known to training jobs only."""
    specification = row.document["AlgorithmSpecification"]
    channels = [
        (channel, members)
        for channel in row.document.get("InputDataConfig") or []
        if spec["host"] in (members := hosts_of(channel, row))
    ]
    spec["inputs"] = [
        _input(channel, specification, members, parts) for channel, members in channels
    ]
    spec["rules"] = debug_rules.for_runner(row)
    mounted = file_systems.mounts([channel for channel, _ in channels], parts.settings)
    program = dict(spec["program"])
    for kind, paths in mounted.items():
        program[kind] = [*program[kind], *paths]
    spec["program"] = program


def _seconds_left(row: Row) -> float:
    """MaxRuntimeInSeconds counts earlier attempts as well."""
    most = row.document["StoppingCondition"]["MaxRuntimeInSeconds"]
    return max(1.0, most - float(row.state.get("seconds_spent") or 0.0))


def hosts_of(channel: Mapping[str, Any], row: Row) -> tuple[str, ...]:
    """The hosts that a channel goes to: all, or those of the instance groups that it names."""
    everyone = FORM.hosts(row)
    source = channel["DataSource"].get("S3DataSource") or {}
    given = row.document.get("HyperParameters") or {}
    if jumpstart.is_replaced_model(channel["ChannelName"], source.get("S3Uri") or "", given):
        return ()
    named = source.get("InstanceGroupNames")
    if not named:
        return everyone
    groups = instance_groups(row.document["ResourceConfig"], everyone)
    return tuple(
        host for group in groups if group["instance_group_name"] in named for host in group["hosts"]
    )


def _mode(channel: Mapping[str, Any], specification: Mapping[str, Any]) -> str:
    return channel.get("InputMode") or specification["TrainingInputMode"]


def _argv(specification: dict[str, Any], train: Any) -> tuple[str, ...]:
    """ContainerEntrypoint and ContainerArguments replace the image's entry point and its `train` as with Docker."""
    entrypoint = specification.get("ContainerEntrypoint")
    arguments = specification.get("ContainerArguments")
    if entrypoint:
        return (*entrypoint, *(arguments or ()))
    return (
        (*train.argv, *(arguments or ())) if train is not None else tuple(arguments or ("train",))
    )


def _input(
    channel: dict[str, Any],
    specification: dict[str, Any],
    members: tuple[str, ...],
    parts: Parts,
) -> dict[str, Any]:
    target = f"input/data/{channel['ChannelName']}"
    place = channel["DataSource"].get("FileSystemDataSource")
    if place is not None:
        path = str(file_systems.directory(place, parts.settings))
        known = {"name": channel["ChannelName"], "uri": path, "type": "FileSystem"}
        return {**known, "target": target, "mode": "File"}
    source = channel["DataSource"]["S3DataSource"]
    mode = _mode(channel, specification)
    return {
        "name": channel["ChannelName"],
        "uri": s3_uri_of(source, mode),
        "type": source["S3DataType"],
        "target": target,
        "mode": mode,
        "distribution": source.get("S3DataDistributionType") or "FullyReplicated",
        "compression": channel.get("CompressionType") or "None",
        "unpack": False,
        "record_wrapper": channel.get("RecordWrapperType") or "None",
        "attributes": source.get("AttributeNames") or [],
        "shuffle_seed": (channel.get("ShuffleConfig") or {}).get("Seed"),
        "hosts": list(members),
    }


def outputs(row: Row) -> list[dict[str, Any]]:
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


def _watched_outputs(row: Row) -> list[dict[str, Any]]:
    """What TensorBoard and the debugger's hook write is stored while the job runs."""
    found: list[dict[str, Any]] = []
    for member, (local, folder) in debug_rules.WATCHED.items():
        config = row.document.get(member)
        if config and config.get("S3OutputPath"):
            path = config.get("LocalPath") or local
            uri = f"{join_s3_uri(config['S3OutputPath'], row.name, folder)}/"
            found.append(
                {
                    "name": folder,
                    "source": path.removeprefix("/opt/ml/").strip("/"),
                    "uri": uri,
                    "form": "tree",
                    "when": "continuous",
                    "on": [],
                    "required": False,
                    "kms_key_id": row.document["OutputDataConfig"].get("KmsKeyId") or None,
                }
            )
    return found


def _checkpoints(config: dict[str, Any]) -> dict[str, str]:
    return {"uri": config["S3Uri"], "path": config.get("LocalPath") or "/opt/ml/checkpoints"}


def _files(row: Row, host: str, everyone: tuple[str, ...]) -> dict[str, str]:
    document = row.document
    config = document["ResourceConfig"]
    channels = {
        channel["ChannelName"]: _channel_config(channel, document["AlgorithmSpecification"])
        for channel in document.get("InputDataConfig") or []
        if host in hosts_of(channel, row)
    }
    files = {
        "hyperparameters": document.get("HyperParameters") or {},
        "inputdataconfig": channels,
        "resourceconfig": resource_config(config, host, everyone),
    }
    checkpoints = document.get("CheckpointConfig")
    if checkpoints:
        files["checkpointconfig"] = {"LocalPath": _checkpoints(checkpoints)["path"]}
    told = {f"input/config/{name}.json": json.dumps(value) for name, value in files.items()}
    return {**told, **debug_rules.files(row)}


def _channel_config(channel: dict[str, Any], specification: dict[str, Any]) -> dict[str, str]:
    source = channel["DataSource"].get("S3DataSource") or {}
    config = {
        "TrainingInputMode": _mode(channel, specification),
        "S3DistributionType": source.get("S3DataDistributionType") or "FullyReplicated",
        "RecordWrapperType": channel.get("RecordWrapperType") or "None",
    }
    for member in ("ContentType", "CompressionType"):
        if channel.get(member):
            config[member] = channel[member]
    return config


def instance_groups(config: Mapping[str, Any], everyone: tuple[str, ...]) -> list[dict[str, Any]]:
    """The groups as resourceconfig.json shows them; several share the hosts in their order."""
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
    return shown


def instance_type(config: Mapping[str, Any], host: str, everyone: tuple[str, ...]) -> str:
    groups = instance_groups(config, everyone)
    return next((one["instance_type"] or "" for one in groups if host in one["hosts"]), "")


def resource_config(config: dict[str, Any], host: str, everyone: tuple[str, ...]) -> dict[str, Any]:
    """resourceconfig.json of one host."""
    shown = instance_groups(config, everyone)
    own = next(group for group in shown if host in group["hosts"])
    return {
        "current_host": host,
        "current_instance_type": own["instance_type"],
        "current_group_name": own["instance_group_name"],
        "hosts": sorted(everyone),
        "instance_groups": shown,
        "network_interface_name": "lo",
    }
