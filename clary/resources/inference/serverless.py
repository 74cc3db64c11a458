"""Serverless variants: the rules of their configuration, and the door's word that one is in use."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from clary.engine.call import Parts
from clary.model.errors import ValidationException
from clary.resources.inference.endpoint_containers import is_plain
from clary.resources.inference.scale_to_zero import least_hosts, woken
from clary.store.rows import RowChanged

log = logging.getLogger(__name__)

ATTEMPTS_MAX = 8
MEGABYTE = 1024 * 1024
WORKERS = "SAGEMAKER_MODEL_SERVER_WORKERS"


def serverless_part(
    config: Mapping[str, Any], variant: Mapping[str, Any], part: dict[str, Any]
) -> dict[str, Any]:
    """The members of an endpoint's variant that is serverless; raise for what serverless cannot do."""
    name = variant["VariantName"]
    settings = variant["ServerlessConfig"]
    refused = {
        "several production variants": len(config["ProductionVariants"]) > 1,
        "a DataCaptureConfig": bool(config.get("DataCaptureConfig")),
        "ShadowProductionVariants": bool(config.get("ShadowProductionVariants")),
        "network isolation": part["isolated"],
        "several containers or models": not is_plain(part),
    }
    for what, given in refused.items():
        if given:
            raise ValidationException(f"Serverless variant {name} does not support {what}.")
    if settings["MemorySizeInMB"] % 1024:
        raise ValidationException(
            f"MemorySizeInMB of serverless variant {name} must be a multiple of 1024, not "
            f"{settings['MemorySizeInMB']}."
        )
    check_concurrency(name, settings)
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
