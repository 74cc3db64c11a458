"""The containers that a variant's model runs, as its endpoint keeps them: a copy, since models may be deleted."""

from __future__ import annotations

from typing import Any

from clary.engine.call import Parts
from clary.model.errors import ValidationException
from clary.resources.inference.model_container import containers_of_model, named_containers
from clary.resources.inference.model_server import pipelined_workers
from clary.store.rows import Row

SERIAL, DIRECT = "Serial", "Direct"


def model_part(parts: Parts, model: Row) -> dict[str, Any]:
    """The members of an endpoint's variant that its model decides."""
    containers = [_container(parts, one) for one in named_containers(containers_of_model(model))]
    mode = (model.document.get("InferenceExecutionConfig") or {}).get("Mode") or SERIAL
    several = [one for one in containers if one.get("Mode") == "MultiModel"]
    if len(containers) > 1:
        _chain_models(several, mode)
    found: dict[str, Any] = {
        "role": model.document.get("ExecutionRoleArn", ""),
        "isolated": bool(model.document.get("EnableNetworkIsolation")),
        "containers": containers,
        "pipelined_workers": containers[0]["pipelined_workers"],
    }
    if len(containers) > 1:
        found["execution"] = mode
    elif several:
        found["multi_model"] = _multi_model(containers[0])
        # One process holds all models; more of them would not share what is loaded.
        found["pipelined_workers"] = min(1, found["pipelined_workers"])
    return found


def container_part(parts: Parts, given: dict[str, Any], role: str) -> dict[str, Any]:
    """The same of a container that an inference component names itself."""
    members = {"Image": given.get("Image"), "Environment": given.get("Environment") or {}}
    if given.get("ArtifactUrl"):
        members["ModelDataUrl"] = given["ArtifactUrl"]
    container = _container(parts, named_containers([members])[0])
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


def _container(parts: Parts, given: dict[str, Any]) -> dict[str, Any]:
    return {**given, "pipelined_workers": pipelined_workers(parts, given)}


def _chain_models(several: list[dict[str, Any]], mode: str) -> None:
    """ "You can use only one multi-model-enabled endpoint in a serial inference pipeline" (developer guide)."""
    if len(several) > 1:
        raise ValidationException("Only one container of an inference pipeline may be MultiModel.")
    if several and mode == DIRECT:
        raise ValidationException(
            "Containers with Mode MultiModel cannot be used with InferenceExecutionConfig Mode Direct."
        )
    for one in several:
        one |= {"multi_model": _multi_model(one)}
        one["pipelined_workers"] = min(1, one["pipelined_workers"])


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
