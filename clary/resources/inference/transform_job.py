"""A transform job sends the records of S3 objects through a model, and stores its answers beside them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import Any

from clary.engine.call import Call, Parts
from clary.engine.host_specs import Work, host_directory, host_specs
from clary.engine.naming import arn_of
from clary.engine.resource import Resource
from clary.engine.s3_inputs import require_objects
from clary.engine.verbs import create
from clary.images.image import Image
from clary.model.errors import ResourceInUse, ValidationException
from clary.model.s3_uris import parse_s3_uri
from clary.reconcile.jobs import JobPlan
from clary.reconcile.lifecycles import JOB
from clary.resources.inference.model_container import chained_containers, model_inputs
from clary.resources.inference.transform_job_form import (
    LOG_GROUP,
    TransformJobForm,
    TransformPlan,
    container_of,
    containers_of_job,
    instance_keys,
    leads,
    transforming_hosts,
)
from clary.runner import json_paths
from clary.runner.data_processing import format_of
from clary.store.rows import Row

FORM = TransformJobForm()
RUNTIME_SECONDS_MAX = 5 * 86_400
HEALTH_SECONDS = 240
SOCKET = "serve.sock"
GRACE_SECONDS = 30
PAYLOAD_MEGABYTES_MAX = 100
TIMEOUT_SECONDS_DEFAULT = 600
RETRIES_DEFAULT = 3
STREAMED_BYTES_MAX = 4 << 30
PROCESSING_DEFAULTS = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}


def with_defaults(call: Call) -> None:
    """What CreateTransformJob leaves out is told by DescribeTransformJob all the same."""
    source, target = call.input["TransformInput"], call.input["TransformOutput"]
    source.setdefault("CompressionType", "None")
    source.setdefault("SplitType", "None")
    target.setdefault("AssembleWith", "None")
    target.setdefault("KmsKeyId", "")
    given = {name: value for name, value in call.input.get("DataProcessing", {}).items() if value}
    call.input["DataProcessing"] = {**PROCESSING_DEFAULTS, **given}


def input_is_of_s3_prefix_or_manifest(call: Call) -> None:
    kind = call.input["TransformInput"]["DataSource"]["S3DataSource"]["S3DataType"]
    if kind not in ("S3Prefix", "ManifestFile"):
        raise ValidationException(
            f"S3DataType {kind} is not supported by transform jobs; use S3Prefix or ManifestFile."
        )


def payload_is_within_limits(call: Call) -> None:
    payload = call.input.get("MaxPayloadInMB")
    concurrency = call.input.get("MaxConcurrentTransforms")
    if payload is not None and payload > PAYLOAD_MEGABYTES_MAX:
        raise ValidationException(
            f"MaxPayloadInMB is {payload}; it must not be greater than {PAYLOAD_MEGABYTES_MAX}."
        )
    if payload and concurrency and payload * concurrency > PAYLOAD_MEGABYTES_MAX:
        raise ValidationException(
            f"MaxConcurrentTransforms * MaxPayloadInMB is {payload * concurrency} MB; it must not "
            f"exceed {PAYLOAD_MEGABYTES_MAX} MB."
        )


def filters_are_json_paths(call: Call) -> None:
    for member in ("InputFilter", "OutputFilter"):
        try:
            json_paths.parse(call.input["DataProcessing"][member])
        except json_paths.JsonPathError as problem:
            raise ValidationException(f"DataProcessing.{member}: {problem}.") from problem


def data_processing_fits_the_data(call: Call) -> None:
    """Filters and joins work on CSV, JSON and JSON Lines; a join needs both sides in one of these."""
    processing = call.input["DataProcessing"]
    source, target = call.input["TransformInput"], call.input["TransformOutput"]
    if processing == PROCESSING_DEFAULTS:
        return
    if not format_of(source.get("ContentType", "")):
        raise ValidationException(
            "DataProcessing needs a ContentType of text/csv, application/json or "
            f"application/jsonlines, not {source.get('ContentType') or 'none'}."
        )
    if processing["JoinSource"] != "Input":
        return
    accept = target.get("Accept")
    if accept and format_of(accept) != format_of(source["ContentType"]):
        raise ValidationException(
            f"With JoinSource Input, ContentType ({source['ContentType']}) and Accept ({accept}) "
            "must be the same."
        )
    if source["SplitType"] != target["AssembleWith"]:
        raise ValidationException(
            f"With JoinSource Input, SplitType ({source['SplitType']}) and AssembleWith "
            f"({target['AssembleWith']}) must be the same."
        )


def places_are_of_s3(call: Call) -> None:
    parse_s3_uri(call.input["TransformOutput"]["S3OutputPath"])
    if "DataCaptureConfig" in call.input:
        parse_s3_uri(call.input["DataCaptureConfig"]["DestinationS3Uri"])


def input_objects_exist(call: Call) -> None:
    """The model's role reads the input, so it is the one to name where nothing is found."""
    uri = call.input["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
    model = _model(call)
    role = model.document.get("ExecutionRoleArn", "")
    require_objects(replace(call, input={"RoleArn": role}), uri)


def _model(call: Call) -> Row:
    name = call.input["ModelName"]
    row = call.parts.store.rows.get("Model", name, account=call.account, region=call.region)
    if row is None:
        arn = arn_of(call.parts.bound("Model"), call, "", name)
        raise ValidationException(f'Could not find model "{arn}".')
    return row


def hosts(row: Row, keys: tuple[str, ...], parts: Parts) -> list[dict[str, Any]]:
    """Each host runs one container; that of the first asks the others of its instance in turn."""
    return [_host(row, key, parts) for key in keys]


def _host(row: Row, key: str, parts: Parts) -> dict[str, Any]:
    (spec,) = host_specs(row, (key,), parts, _work(row, key, parts))
    # Each spec gets a program of its own: the launch takes members out of it.
    spec = {**spec, "program": dict(spec["program"])}
    if not leads(key):
        return spec
    return {**spec, "transform": {**transform_of(row), **_pipeline(row, key, parts)}}


def _pipeline(row: Row, key: str, parts: Parts) -> dict[str, Any]:
    """Where the containers are that follow the first of an instance."""
    containers = containers_of_job(row)
    if len(containers) == 1:
        return {}
    keys = instance_keys(row, key)
    sockets = [str(host_directory(parts.settings, row, one) / SOCKET) for one in keys]
    following = [
        {"name": one["name"], "socket": socket}
        for one, socket in zip(containers, sockets, strict=True)
    ]
    return {"container": containers[0]["name"], "following": following[1:]}


def _work(row: Row, key: str, parts: Parts) -> Work:
    model, container = row.state["model"], container_of(row, key)
    image = parts.image(container["Image"])
    serve = image.commands.get("serve")
    return Work(
        role_arn=model["role"],
        image=image,
        argv=serve.argv if serve is not None else ("serve",),
        environment=environment(row, image, container),
        # What follows in a pipeline serves its own instance; only the first ones share the input.
        hosts=transforming_hosts(row) if leads(key) else (key,),
        inputs=model_inputs(container),
        stream=lambda host: _stream(row, host),
        log_group=LOG_GROUP,
        utilization=lambda host: {
            "namespace": LOG_GROUP,
            "dimensions": {"Host": f"{row.name}/{instance_id(row, host)}"},
        },
        seconds_max=RUNTIME_SECONDS_MAX,
        instance_type=lambda _: row.document["TransformResources"]["InstanceType"],
        grace_seconds=GRACE_SECONDS,
        network_isolation=model["isolated"],
        serve={
            "socket": SOCKET,
            "health_seconds": HEALTH_SECONDS,
            "ping_path": "/ping",
        },
    )


def _stream(row: Row, key: str) -> str:
    """`job/instance-epoch`, and the container where there are several."""
    stream = f"{row.name}/{instance_id(row, key)}-{int(row.created)}"
    several = len(containers_of_job(row)) > 1
    return f"{stream}/{container_of(row, key)['name']}" if several else stream


def environment(row: Row, image: Image, container: dict[str, Any]) -> dict[str, str]:
    """The model's variables, the job's, which win, and those by which a container knows a batch."""
    document = row.document
    given: dict[str, str] = {
        **(container.get("Environment") or {}),
        **document.get("Environment", {}),
    }
    concurrency = document.get("MaxConcurrentTransforms")
    found = {"SAGEMAKER_BATCH": "true", "TRANSFORM_JOB_ARN": row.arn}
    if "MaxPayloadInMB" in document:
        found["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(document["MaxPayloadInMB"])
        if document["MaxPayloadInMB"] == 0:
            # The server of the image would stop at its own bound; a streamed object may be longer.
            given.setdefault("SAGEMAKER_MAX_REQUEST_SIZE", str(STREAMED_BYTES_MAX))
    if "BatchStrategy" in document:
        strategies = {"SingleRecord": "SINGLE_RECORD", "MultiRecord": "MULTI_RECORD"}
        found["SAGEMAKER_BATCH_STRATEGY"] = strategies[document["BatchStrategy"]]
    if concurrency:
        found["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(concurrency)
    # A process of the model server answers one request at a time: as many as are sent at once, if
    # there are processors for them. A built-in algorithm asks for one on each processor.
    processors = os.cpu_count() or 1
    workers = min(processors, concurrency or (processors if image.algorithm else 1))
    given.setdefault("SAGEMAKER_MODEL_SERVER_WORKERS", str(workers))
    return {**given, **found}


def transform_of(row: Row) -> dict[str, Any]:
    """The member `transform` of a host spec: what the runner reads, asks and writes."""
    document = row.document
    source, target = document["TransformInput"], document["TransformOutput"]
    client = document.get("ModelClientConfig") or {}
    processing = document["DataProcessing"]
    capture = document.get("DataCaptureConfig")
    data = source["DataSource"]["S3DataSource"]
    return {
        "input": {
            "type": data["S3DataType"],
            "uri": _plain(data["S3Uri"]),
            "content_type": source.get("ContentType"),
            "compression": source["CompressionType"],
            "split": source["SplitType"],
        },
        "output": {
            "uri": _plain(target["S3OutputPath"]),
            "accept": target.get("Accept"),
            "assemble": target["AssembleWith"],
            "kms_key_id": target["KmsKeyId"],
        },
        "strategy": document.get("BatchStrategy"),
        "payload_megabytes": document.get("MaxPayloadInMB"),
        "concurrency": document.get("MaxConcurrentTransforms"),
        "timeout_seconds": client.get("InvocationsTimeoutInSeconds", TIMEOUT_SECONDS_DEFAULT),
        "retries": client.get("InvocationsMaxRetries", RETRIES_DEFAULT),
        "processing": {
            "input_filter": processing["InputFilter"],
            "joins": processing["JoinSource"] == "Input",
            "output_filter": processing["OutputFilter"],
        },
        "capture": _capture(capture) if capture else None,
        "started": row.created,
    }


def _capture(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "uri": _plain(config["DestinationS3Uri"]),
        "kms_key_id": config.get("KmsKeyId"),
        "inference_id": bool(config.get("GenerateInferenceId")),
    }


def _plain(uri: str) -> str:
    bucket, key = parse_s3_uri(uri)
    return f"s3://{bucket}/{key}"


def instance_id(row: Row, host: str) -> str:
    instance = instance_keys(row, host)[0]
    return "i-" + hashlib.sha256(f"{row.arn}/{row.id}/{instance}".encode()).hexdigest()[:17]


transform_job = Resource(
    "TransformJob",
    lifecycle=JOB,
    admits=(
        with_defaults,
        input_is_of_s3_prefix_or_manifest,
        payload_is_within_limits,
        filters_are_json_paths,
        data_processing_fits_the_data,
        places_are_of_s3,
        input_objects_exist,
    ),
    missing=ValidationException("Could not find requested job with name: {name}"),
    taken=ResourceInUse(
        "Job name must be unique within an AWS account and region, and a job with this name "
        "already exists ({arn})"
    ),
    verbs=("Create", "Describe", "List", "Stop"),
    plan=TransformPlan(JobPlan(FORM)),
    hosts=hosts,
    images=lambda row: tuple(sorted({one["Image"] for one in containers_of_job(row)})),
)


@transform_job.operation("CreateTransformJob")
def create_transform_job(call: Call) -> dict[str, Any]:
    """The job keeps a copy of its model, which may be deleted while it runs."""
    model = _model(call)
    kept = {
        "containers": chained_containers(model, "A transform job"),
        "role": model.document.get("ExecutionRoleArn", ""),
        "isolated": bool(model.document.get("EnableNetworkIsolation")),
    }
    return create(call.parts.bound("TransformJob"), call, {"model": kept})
