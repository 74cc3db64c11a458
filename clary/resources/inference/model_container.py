"""The one container of a model as a host runs it, and the data that it finds under /opt/ml/model."""

from __future__ import annotations

from typing import Any

from clary.model.errors import NotImplementedException
from clary.store.rows import Row


def containers_of_model(model: Row) -> list[dict[str, Any]]:
    """All that a model runs; those of model packages as the packages were when the model was made."""
    found: list[dict[str, Any]] = (
        model.state.get("containers")
        or model.document.get("Containers")
        or [model.document["PrimaryContainer"]]
    )
    return found


def only_container(model: Row, what: str) -> dict[str, Any]:
    """A model's container; raise NotImplementedException for what `what` cannot be made of yet."""
    containers = containers_of_model(model)
    if len(containers) > 1:
        raise NotImplementedException(
            f"{what} whose model has several containers are not built yet in this version of Clary."
        )
    container = dict(containers[0])
    if container.get("Mode") == "MultiModel":
        raise NotImplementedException(
            f"{what} of multi-model containers are not built yet in this version of Clary."
        )
    return container


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
