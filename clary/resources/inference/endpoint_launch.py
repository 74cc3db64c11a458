"""The host specs of an endpoint: each host runs one container of one instance of a variant."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from clary.engine.call import Parts
from clary.engine.host_specs import Work, host_directory, host_specs
from clary.resources.inference.endpoint_hosts import (
    HostKey,
    containers_of,
    instance_of,
    variants_of,
)
from clary.resources.inference.model_container import model_inputs
from clary.store.rows import Row

HEALTH_SECONDS_DEFAULT = 240
GRACE_SECONDS = 30
LOG_GROUPS = {
    "Endpoint": "/aws/sagemaker/Endpoints/",
    "InferenceComponent": "/aws/sagemaker/InferenceComponents/",
}
# Where the door puts the models of a multi-model endpoint, beside /opt/ml of the host: the program
# reads them there and cannot put a link of its making in their place.
MODELS = "models"


def images(row: Row) -> tuple[str, ...]:
    target = row.state.get("target") or row.state.get("live") or {"variants": []}
    found = [one for variant in variants_of(target) for one in containers_of(variant)]
    # A variant of inference components has no containers of its own.
    return tuple(sorted({one["Image"] for one in found if one.get("Image")}))


def hosts(row: Row, keys: tuple[str, ...], parts: Parts) -> list[dict[str, Any]]:
    """Each host serves its own container, so each is a piece of work of its own."""
    specs: list[dict[str, Any]] = []
    for key in keys:
        host = HostKey.parse(key)
        variant = _variant(row, host)
        work = _work(row, key, variant, parts)
        for spec in host_specs(row, (key,), parts, work):
            if has_models_folder(row, variant, host.container):
                folder = models_folder(row, key, parts)
                folder.mkdir(parents=True, mode=0o755, exist_ok=True)
                spec["program"]["read_only"].append(str(folder))
            specs.append(spec)
    return specs


def _work(row: Row, key: str, variant: Mapping[str, Any], parts: Parts) -> Work:
    container = containers_of(variant)[HostKey.parse(key).container]
    image = parts.image(container["Image"])
    serve = image.commands.get("serve")
    health = variant.get("ContainerStartupHealthCheckTimeoutInSeconds")
    multi_model = "multi_model" in variant or "multi_model" in container
    environment = dict(container.get("Environment") or {})
    if multi_model:
        environment["SAGEMAKER_MULTI_MODEL"] = "true"
    return Work(
        role_arn=variant["role"],
        image=image,
        argv=serve.argv if serve is not None else ("serve",),
        environment=environment,
        hosts=(key,),
        inputs=() if multi_model else model_inputs(container),
        stream=partial(_stream, row),
        log_group=LOG_GROUPS[row.kind] + row.name,
        utilization=lambda _: _utilization(row, variant),
        instance_type=lambda _: variant.get("InstanceType") or "",
        memory_bytes=variant.get("memory_bytes"),
        grace_seconds=GRACE_SECONDS,
        network_isolation=variant["isolated"],
        serve={
            "socket": "serve.sock",
            "health_seconds": health or HEALTH_SECONDS_DEFAULT,
            "ping_path": "/ping",
        },
    )


def _utilization(row: Row, variant: Mapping[str, Any]) -> dict[str, Any]:
    """Each container's use of its host's CPUs and memory, told for the variant that it is of."""
    dimensions = {"InferenceComponentName": row.name}
    if row.kind == "Endpoint":
        dimensions = {"EndpointName": row.name, "VariantName": variant["VariantName"]}
    return {"namespace": LOG_GROUPS[row.kind].rstrip("/"), "dimensions": dimensions}


def has_models_folder(row: Row, variant: Mapping[str, Any], container: int = 0) -> bool:
    """Models of a multi-model container, and adapters of a component, come while the host runs."""
    if "multi_model" in variant or row.kind == "InferenceComponent":
        return True
    containers = containers_of(variant)
    return bool(containers) and "multi_model" in containers[container]


def models_folder(row: Row, key: str, parts: Parts) -> Any:
    return host_directory(parts.settings, row, key) / MODELS


def _stream(row: Row, key: str) -> str:
    """`variant/instance`, and the container where there are several."""
    host = HostKey.parse(key)
    stream = f"{host.variant}/{instance_id(row, key)}"
    containers = containers_of(_variant(row, host))
    return f"{stream}/{containers[host.container]['name']}" if len(containers) > 1 else stream


def _variant(row: Row, host: HostKey) -> Mapping[str, Any]:
    for part in (row.state.get("target"), row.state.get("live")):
        if part and part["revision"] == host.revision:
            for variant in variants_of(part):
                if variant["VariantName"] == host.variant:
                    return variant
    raise LookupError(f"endpoint {row.name} has no variant {host.variant} r{host.revision}")


def instance_id(row: Row, key: str) -> str:
    digest = hashlib.sha256(f"{row.arn}/{row.id}/{instance_of(key)}".encode()).hexdigest()
    return f"i-{digest[:17]}"
