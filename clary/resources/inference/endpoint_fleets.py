"""Which instances take which part of an endpoint's traffic now: the fleets, variant by variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clary.resources.inference.endpoint_deployment import Deployment
from clary.resources.inference.endpoint_hosts import instance_keys
from clary.resources.inference.endpoint_shadows import sampled_share
from clary.resources.inference.endpoint_traffic import weights
from clary.store.rows import Row

SERVING = ("InService", "Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed")


@dataclass(frozen=True, slots=True)
class ServingVariant:
    """One variant of one fleet; while an endpoint moves between fleets, a name may stand for two."""

    variant: Mapping[str, Any]
    weight: float
    instances: Sequence[tuple[str, ...]]  # those that are ready, each by the keys of its hosts
    config: str


def serving_variants(row: Row) -> list[ServingVariant]:
    """What takes the requests of an endpoint."""
    live = row.state.get("live") if row.status in SERVING else None
    if not live:
        return []
    ready = set(row.state.get("ready", []))
    deployment = Deployment.of(row)
    if deployment is None:
        found = {one["VariantName"]: float(one["weight"]) for one in live["variants"]}
        return _fleet(live, live["variants"], found, None, ready)
    share, step, target = deployment.share, deployment.step, row.state["target"]
    old = weights(live["variants"], 1.0 - share)
    serving = _fleet(live, live["variants"], old, step.kept, ready)
    if deployment.new_serves:
        new = weights(target["variants"], share)
        serving += _fleet(target, target["variants"], new, step.fresh, ready)
    return serving


def shown_fleet(row: Row) -> int:
    """How many instances serve now."""
    return sum(len(one.instances) for one in serving_variants(row))


def shadowing_variants(row: Row) -> list[ServingVariant]:
    """What gets copies: the shadows of the fleet that serves until a deployment has ended."""
    live = row.state.get("live") if row.status in SERVING else None
    shadows = (live or {}).get("shadows") or []
    if not live or not shadows:
        return []
    share = {one["VariantName"]: sampled_share(one, live["variants"][0]) for one in shadows}
    deployment = Deployment.of(row)
    counts = None if deployment is None else deployment.step.kept
    return _fleet(live, shadows, share, counts, set(row.state.get("ready", [])))


def _fleet(
    target: Mapping[str, Any],
    variants: Sequence[Mapping[str, Any]],
    weight: Mapping[str, float],
    counts: Mapping[str, int] | None,
    ready: set[str],
) -> list[ServingVariant]:
    found: list[ServingVariant] = []
    for variant in variants:
        name, count = variant["VariantName"], int(variant["count"])
        if counts is not None:
            count = min(count, counts.get(name, 0))
        instances = [instance_keys(target, variant, number) for number in range(count)]
        able = [keys for keys in instances if all(key in ready for key in keys)]
        found.append(ServingVariant(variant, weight[name], able, target["config"]))
    return found
