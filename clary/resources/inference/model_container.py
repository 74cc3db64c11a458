"""The containers of a model as hosts run them, and the data that each finds under /opt/ml/model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clary.model.errors import ValidationException
from clary.store.rows import Row


def containers_of_model(model: Row) -> list[dict[str, Any]]:
    """All that a model runs; those of model packages as the packages were when the model was made."""
    found: list[dict[str, Any]] = (
        model.state.get("containers")
        or model.document.get("Containers")
        or [model.document["PrimaryContainer"]]
    )
    return found


def named_containers(given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Containers by their host names; raise ValidationException where two have the same."""
    found = [
        {**one, "name": one.get("ContainerHostname") or f"container_{number}"}
        for number, one in enumerate(given, 1)
    ]
    if len({one["name"] for one in found}) < len(found):
        raise ValidationException("The ContainerHostname of a model's containers must be unique.")
    return found


def chained_containers(model: Row, what: str) -> list[dict[str, Any]]:
    """The containers that each request of a batch goes through; raise ValidationException where it cannot."""
    containers = named_containers(containers_of_model(model))
    if any(one.get("Mode") == "MultiModel" for one in containers):
        raise ValidationException(
            f"{what} cannot use model {model.name}: it has a multi-model container, and only "
            "InvokeEndpoint can name one of its models."
        )
    mode = (model.document.get("InferenceExecutionConfig") or {}).get("Mode")
    if mode == "Direct":
        raise ValidationException(
            f"{what} cannot use model {model.name}: its InferenceExecutionConfig Mode is Direct, and "
            "only InvokeEndpoint can name one of its containers."
        )
    return containers


def model_inputs(container: dict[str, Any]) -> list[dict[str, Any]]:
    """The `inputs` of a host spec that stage a container's model data."""
    staged = {
        "name": "model",
        "target": "model",
        "mode": "File",
        "distribution": "FullyReplicated",
        "compression": "None",
        "record_wrapper": "None",
        "attributes": [],
        "shuffle_seed": None,
    }
    source = (container.get("ModelDataSource") or {}).get("S3DataSource")
    if source:
        packed = source["CompressionType"] == "Gzip"
        kind = "S3Object" if source["S3DataType"] == "S3Object" or packed else "S3Prefix"
        return [{**staged, "uri": source["S3Uri"], "type": kind, "unpack": packed}]
    if container.get("ModelDataUrl"):
        return [{**staged, "uri": container["ModelDataUrl"], "type": "S3Object", "unpack": True}]
    return []
