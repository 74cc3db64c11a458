"""The containers that a variant's model runs, as its endpoint keeps them: a copy, since models may be deleted."""

from __future__ import annotations

from typing import Any

from clary.engine.call import Parts
from clary.model.errors import NotImplementedException, ValidationException
from clary.resources.inference.model_container import containers_of_model
from clary.resources.inference.model_server import pipelined_workers
from clary.store.rows import Row

SERIAL, DIRECT = "Serial", "Direct"


def model_part(parts: Parts, model: Row) -> dict[str, Any]:
    """The members of an endpoint's variant that its model decides."""
    given = containers_of_model(model)
    containers = [_container(parts, one, number) for number, one in enumerate(given, 1)]
    mode = (model.document.get("InferenceExecutionConfig") or {}).get("Mode") or SERIAL
    if mode == DIRECT and not all(one.get("ContainerHostname") for one in given):
        raise ValidationException(
            "Every container of a model with InferenceExecutionConfig Mode Direct needs a "
            "ContainerHostname, by which it is invoked."
        )
    if len({one["name"] for one in containers}) < len(containers):
        raise ValidationException("The ContainerHostname of a model's containers must be unique.")
    multi_model = any(one.get("Mode") == "MultiModel" for one in given)
    if multi_model and len(containers) > 1:
        raise NotImplementedException(
            "Multi-model containers inside an inference pipeline are not built yet in this version "
            "of Clary; give the multi-model container an endpoint of its own."
        )
    found: dict[str, Any] = {
        "role": model.document.get("ExecutionRoleArn", ""),
        "isolated": bool(model.document.get("EnableNetworkIsolation")),
        "containers": containers,
        "pipelined_workers": containers[0]["pipelined_workers"],
    }
    if len(containers) > 1:
        found["execution"] = mode
    if multi_model:
        found["multi_model"] = _multi_model(containers[0])
        # One process holds all models; more of them would not share what is loaded.
        found["pipelined_workers"] = min(1, found["pipelined_workers"])
    return found


def container_part(parts: Parts, given: dict[str, Any], role: str) -> dict[str, Any]:
    """The same of a container that an inference component names itself."""
    members = {"Image": given.get("Image"), "Environment": given.get("Environment") or {}}
    if given.get("ArtifactUrl"):
        members["ModelDataUrl"] = given["ArtifactUrl"]
    container = _container(parts, members, 1)
    workers = container["pipelined_workers"]
    return {
        "role": role,
        "isolated": False,
        "containers": [container],
        "pipelined_workers": workers,
    }


def is_plain(part: dict[str, Any]) -> bool:
    """One container with one model."""
    return "execution" not in part and "multi_model" not in part


def _container(parts: Parts, given: dict[str, Any], number: int) -> dict[str, Any]:
    name = given.get("ContainerHostname") or f"container_{number}"
    return {**given, "name": name, "pipelined_workers": pipelined_workers(parts, given)}


def _multi_model(container: dict[str, Any]) -> dict[str, Any]:
    """Where the models are, and whether one stays in memory after it was asked."""
    source = (container.get("ModelDataSource") or {}).get("S3DataSource") or {}
    prefix = container.get("ModelDataUrl") or source.get("S3Uri") or ""
    if not prefix.endswith("/"):
        raise ValidationException(
            f"The ModelDataUrl of a multi-model container is a prefix and ends with /, unlike {prefix}."
        )
    setting = (container.get("MultiModelConfig") or {}).get("ModelCacheSetting")
    return {"prefix": prefix, "cached": setting != "Disabled"}
