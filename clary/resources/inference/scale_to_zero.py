"""Serverless variants come up when they are asked and go when nobody asks: how many hosts they have now. Pure.

asked   when each serverless variant was last in use, as the door tells it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from clary.resources.inference.endpoint_hosts import Target, variants_of
from clary.store.rows import Row

IDLE_SECONDS = 60.0
PROVISIONED = "ProvisionedConcurrency"


def has_serverless(target: Target | None) -> bool:
    return any("ServerlessConfig" in variant for variant in variants_of(target))


def least_hosts(variant: Mapping[str, Any]) -> int:
    """What is up even when nobody asks: something, where concurrency is provisioned."""
    return 1 if variant["ServerlessConfig"].get(PROVISIONED) else 0


def woken(row: Row, names: Iterable[str], now: float) -> dict[str, Any]:
    """The members of the row's state after the door told that these variants are in use."""
    wanted = set(names)
    asked = {**row.state.get("asked", {}), **dict.fromkeys(wanted, now)}
    return {"asked": asked, **_counted(row, dict.fromkeys(wanted, 1))}


def idled(row: Row, now: float) -> dict[str, Any]:
    """The members of the row's state that change because variants were idle for long; often none."""
    asked: Mapping[str, float] = row.state.get("asked", {})
    idle = {
        variant["VariantName"]: 0
        for variant in variants_of(row.state.get("live"))
        if "ServerlessConfig" in variant
        and variant["count"] > least_hosts(variant)
        and now - asked.get(variant["VariantName"], 0.0) >= IDLE_SECONDS
    }
    return _counted(row, idle) if idle else {}


def idle_seconds_left(row: Row, now: float) -> float | None:
    """When to look again for variants that may have become idle."""
    asked: Mapping[str, float] = row.state.get("asked", {})
    left = [
        IDLE_SECONDS - (now - asked.get(variant["VariantName"], 0.0))
        for variant in variants_of(row.state.get("live"))
        if "ServerlessConfig" in variant and variant["count"] > least_hosts(variant)
    ]
    return max(0.0, min(left)) if left else None


def carried_over(live: Target | None, target: dict[str, Any]) -> dict[str, Any]:
    """A variant that is up when its endpoint is updated stays up: the new fleet takes its place warm."""
    counts = {
        one["VariantName"]: one["count"] for one in variants_of(live) if "ServerlessConfig" in one
    }
    for variant in target["variants"]:
        if "ServerlessConfig" in variant:
            known = counts.get(variant["VariantName"], 0)
            variant["count"] = max(known, least_hosts(variant))
    return target


def _counted(row: Row, counts: Mapping[str, int]) -> dict[str, Any]:
    """`live` and `target` with other numbers of hosts for their serverless variants."""
    changed: dict[str, Any] = {}
    for part in ("live", "target"):
        known: dict[str, Any] | None = row.state.get(part)
        if known:
            variants = [_with_count(one, counts) for one in known["variants"]]
            if variants != known["variants"]:
                changed[part] = {**known, "variants": variants}
    return changed


def _with_count(variant: dict[str, Any], counts: Mapping[str, int]) -> dict[str, Any]:
    wanted = counts.get(variant["VariantName"])
    if wanted is None or "ServerlessConfig" not in variant:
        return variant
    return {**variant, "count": max(wanted, least_hosts(variant))}
