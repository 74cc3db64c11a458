"""A model: the containers that serve one set of artifacts, given one by one or by model packages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clary.engine.call import Call
from clary.engine.resource import Resource
from clary.engine.verbs import create
from clary.model.errors import ValidationException
from clary.model.s3_uris import parse_s3_uri
from clary.resources.inference.model_packages import containers_of_package


def one_container_or_several(call: Call) -> None:
    """CreateModel takes `PrimaryContainer` or `Containers`, exactly one of the two."""
    given = [name for name in ("PrimaryContainer", "Containers") if call.input.get(name)]
    if len(given) != 1:
        raise ValidationException(
            "You must provide either PrimaryContainer or Containers in CreateModel, but not both."
        )


def containers_have_an_image(call: Call) -> None:
    containers = call.input.get("Containers") or [call.input["PrimaryContainer"]]
    for container in containers:
        if not container.get("Image") and not container.get("ModelPackageName"):
            raise ValidationException(
                "A container definition must name an Image or a ModelPackageName."
            )


def model_data_is_there(call: Call) -> None:
    """Artifacts are looked up when the model is made, so that a misspelt URL fails here and not at the endpoint."""
    _require_data(call, call.input.get("Containers") or [call.input["PrimaryContainer"]])


def containers_can_be_named(call: Call) -> None:
    """ContainerHostname of containers of model packages is theirs to say, so these are looked at in CreateModel."""
    given = call.input.get("Containers") or [call.input["PrimaryContainer"]]
    _require_host_names(call, [one for one in given if not one.get("ModelPackageName")])


def _require_host_names(call: Call, containers: Sequence[dict[str, Any]]) -> None:
    if (call.input.get("InferenceExecutionConfig") or {}).get("Mode") != "Direct":
        return
    if not all(one.get("ContainerHostname") for one in containers):
        raise ValidationException(
            "Every container of a model with InferenceExecutionConfig Mode Direct needs a "
            "ContainerHostname, by which it is invoked."
        )


def _require_data(call: Call, containers: Sequence[dict[str, Any]]) -> None:
    for container in containers:
        url = container.get("ModelDataUrl")
        if not url or container.get("Mode") == "MultiModel":
            continue
        bucket, key = parse_s3_uri(url)
        if call.parts.objects.head(bucket, key) is None:
            raise ValidationException(f"Could not find model data at {url}.")


model = Resource(
    "Model",
    defaults={"EnableNetworkIsolation": False},
    admits=(
        one_container_or_several,
        containers_have_an_image,
        containers_can_be_named,
        model_data_is_there,
    ),
)


@model.operation("CreateModel")
def create_model(call: Call) -> dict[str, Any]:
    """What model packages say is copied: a package may be changed or deleted after its models are made."""
    one_container_or_several(call)
    given = call.input.get("Containers") or [call.input["PrimaryContainer"]]
    if not any(one.get("ModelPackageName") for one in given):
        return create(call.parts.bound("Model"), call)
    containers = [one for container in given for one in containers_of_package(call, container)]
    _require_host_names(call, containers)
    _require_data(call, containers)
    return create(call.parts.bound("Model"), call, {"containers": containers})
