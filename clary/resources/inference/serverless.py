"""Serverless variants: the rules of their configuration, and the door's word that one is in use."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from clary.engine.call import Parts
from clary.model.errors import ValidationException
from clary.resources.inference.model_container import containers_of_model
from clary.resources.inference.scale_to_zero import least_hosts, woken
from clary.store.rows import Row, RowChanged

log = logging.getLogger(__name__)

ATTEMPTS_MAX = 8
MEGABYTE = 1024 * 1024
# "Valid values are in 1 GB increments" (ProductionVariantServerlessConfig).
MEMORY_SIZES = (1024, 2048, 3072, 4096, 5120, 6144)
WORKERS = "SAGEMAKER_MODEL_SERVER_WORKERS"


def check_serverless(config: Mapping[str, Any]) -> None:
    """Raise ValidationException for what a configuration asks of serverless variants that they cannot do."""
    for variant in config["ProductionVariants"]:
        settings = variant.get("ServerlessConfig")
        if settings is None:
            continue
        name = variant["VariantName"]
        _refuse(
            name,
            {
                "several production variants": len(config["ProductionVariants"]) > 1,
                "a DataCaptureConfig": bool(config.get("DataCaptureConfig")),
                "ShadowProductionVariants": bool(config.get("ShadowProductionVariants")),
            },
        )
        if settings["MemorySizeInMB"] not in MEMORY_SIZES:
            known = ", ".join(str(one) for one in MEMORY_SIZES)
            raise ValidationException(
                f"MemorySizeInMB of serverless variant {name} must be one of {known}, not "
                f"{settings['MemorySizeInMB']}."
            )
        check_concurrency(name, settings)


def check_serverless_model(variant: Mapping[str, Any], model: Row) -> None:
    containers = containers_of_model(model)
    several = len(containers) > 1 or containers[0].get("Mode") == "MultiModel"
    _refuse(
        variant["VariantName"],
        {
            "network isolation": bool(model.document.get("EnableNetworkIsolation")),
            "several containers or models": several,
        },
    )


def _refuse(name: str, refused: Mapping[str, bool]) -> None:
    for what, given in refused.items():
        if given:
            raise ValidationException(f"Serverless variant {name} does not support {what}.")


def serverless_part(variant: Mapping[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The members of an endpoint's variant that is serverless."""
    settings = variant["ServerlessConfig"]
    # One host answers all; as many of its processes at once as are asked and there are processors.
    workers = min(os.cpu_count() or 1, settings["MaxConcurrency"])
    container = part["containers"][0]
    environment = {WORKERS: str(workers), **(container.get("Environment") or {})}
    found = {
        **part,
        "containers": [{**container, "Environment": environment}],
        "memory_bytes": settings["MemorySizeInMB"] * MEGABYTE,
        "count": least_hosts(variant),
    }
    if part["pipelined_workers"]:
        text = environment[WORKERS]
        found["pipelined_workers"] = int(text) if text.isascii() and text.isdigit() else 1
    return found


def check_concurrency(name: str, settings: Mapping[str, Any]) -> None:
    provisioned = settings.get("ProvisionedConcurrency")
    if provisioned and provisioned > settings["MaxConcurrency"]:
        raise ValidationException(
            f"ProvisionedConcurrency of serverless variant {name} must not be greater than its "
            f"MaxConcurrency of {settings['MaxConcurrency']}."
        )


def note_use(parts: Parts, used: Sequence[Mapping[str, str]], now: float) -> None:
    """Each is {"region", "endpoint", "variant"}: bring it up if it is down, and keep it up for a while."""
    names: dict[tuple[str, str], set[str]] = {}
    for one in used:
        names.setdefault((one["region"], one["endpoint"]), set()).add(one["variant"])
    for (region, endpoint), variants in names.items():
        _note(parts, region, endpoint, variants, now)
    if names:
        parts.wake()


def _note(parts: Parts, region: str, endpoint: str, variants: set[str], now: float) -> None:
    for _ in range(ATTEMPTS_MAX):
        row = parts.store.rows.get(
            "Endpoint", endpoint, account=parts.settings.account, region=region
        )
        if row is None or row.status == "Deleting":
            return
        changed = woken(row, variants, now)
        if changed.keys() != {"asked"}:
            row.due = now  # a host is to be started
        row.state |= changed
        try:
            parts.store.rows.update(row, touch=False)
        except RowChanged:
            continue
        return
    log.warning("the use of %s/%s could not be written; the door tells it again", region, endpoint)
