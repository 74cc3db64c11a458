"""How an update moves traffic to the fleet that replaces another: steps, each with a share and a time to bake.

    blue/green   the whole new fleet comes up; its share grows by steps; the old fleet goes at the end
    rolling      a batch of the new fleet comes up, takes its share, bakes; as much of the old fleet goes
Pure functions of a DeploymentConfig and the two fleets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clary.model.errors import ValidationException
from clary.resources.inference.endpoint_hosts import Target, counts_of

ALL_AT_ONCE: dict[str, Any] = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
        "TerminationWaitInSeconds": 0,
    }
}
_PERCENT = {"CanarySize": (1, 50), "LinearStepSize": (10, 50), "MaximumBatchSize": (5, 50)}
ROLLBACK_PERCENT = (5, 100)


@dataclass(frozen=True, slots=True)
class Step:
    """What is up during a step, and how much of the traffic goes to the new fleet once it is."""

    share: float
    fresh: Mapping[str, int]  # instances of the new fleet, by variant
    kept: Mapping[str, int]  # instances of the old fleet that still serve, by variant
    bake_seconds: float = 0.0


def steps_of(config: Mapping[str, Any], live: Target, target: Target) -> tuple[Step, ...]:
    """The way from `live` to `target`."""
    old, new = counts_of(live), counts_of(target)
    rolling = config.get("RollingUpdatePolicy")
    if rolling:
        levels = _batches(rolling["MaximumBatchSize"], new)
        bake = float(rolling["WaitIntervalInSeconds"])
        return tuple(
            Step(level, _part(new, level), _part(old, 1.0 - before), bake)
            for before, level in zip((0.0, *levels), levels, strict=False)
        )
    policy = config.get("BlueGreenUpdatePolicy") or ALL_AT_ONCE["BlueGreenUpdatePolicy"]
    traffic = policy["TrafficRoutingConfiguration"]
    bake = float(traffic["WaitIntervalInSeconds"])
    match traffic["Type"]:
        case "CANARY":
            levels = (_fraction(traffic["CanarySize"], new), 1.0)
        case "LINEAR":
            levels = _levels(traffic["LinearStepSize"], new)
        case _:
            levels = (1.0,)
    return tuple(Step(level, new, old, bake) for level in levels)


def steps_back(
    config: Mapping[str, Any], live: Target, target: Target, reached: int
) -> tuple[Step, ...]:
    """The way back from step `reached`: at once where the old fleet is whole, else in batches."""
    old, new = counts_of(live), counts_of(target)
    rolling = config.get("RollingUpdatePolicy")
    if not rolling:
        return (Step(0.0, new, old),)
    forward = steps_of(config, live, target)
    level = forward[reached].share
    size = rolling.get("RollbackMaximumBatchSize")
    batch = _batches(size, new)[0] if size else 1.0
    found: list[Step] = []
    while level > 0:
        lower = max(0.0, round(level - batch, 9))
        found.append(Step(lower, _part(new, level), _part(old, 1.0 - lower)))
        level = lower
    return tuple(found)


def brings_back(config: Mapping[str, Any]) -> bool:
    """Whether a rollback must start instances of the old fleet again before it can move traffic."""
    return bool(config.get("RollingUpdatePolicy"))


def termination_seconds(config: Mapping[str, Any]) -> float:
    """How long the old fleet is kept after the new one has all traffic."""
    policy = config.get("BlueGreenUpdatePolicy") or {}
    return float(policy.get("TerminationWaitInSeconds") or 0)


def timeout_seconds(config: Mapping[str, Any]) -> float | None:
    policy = config.get("BlueGreenUpdatePolicy") or config.get("RollingUpdatePolicy") or {}
    given = policy.get("MaximumExecutionTimeoutInSeconds")
    return None if given is None else float(given)


def alarms_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    alarms = (config.get("AutoRollbackConfiguration") or {}).get("Alarms") or []
    return tuple(one["AlarmName"] for one in alarms if one.get("AlarmName"))


def check_policy(config: Mapping[str, Any], live: Target, target: Target) -> None:
    """Raise ValidationException for what could not be carried out on these fleets."""
    blue_green, rolling = config.get("BlueGreenUpdatePolicy"), config.get("RollingUpdatePolicy")
    if blue_green and rolling:
        raise ValidationException(
            "DeploymentConfig must give either a BlueGreenUpdatePolicy or a RollingUpdatePolicy, "
            "but not both."
        )
    instances = sum(counts_of(target).values())
    if rolling:
        _check_size("MaximumBatchSize", rolling["MaximumBatchSize"], instances)
        if "RollbackMaximumBatchSize" in rolling:
            size = rolling["RollbackMaximumBatchSize"]
            _check_size("RollbackMaximumBatchSize", size, instances, ROLLBACK_PERCENT)
    if blue_green:
        _check_traffic(blue_green["TrafficRoutingConfiguration"], instances)
    _check_timeout(config, live, target)


def _check_traffic(traffic: Mapping[str, Any], instances: int) -> None:
    needed = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}.get(traffic["Type"])
    for member in ("CanarySize", "LinearStepSize"):
        if member in traffic and member != needed:
            raise ValidationException(
                f"{member} cannot be given with a TrafficRoutingConfiguration of Type "
                f"{traffic['Type']}."
            )
    if needed and needed not in traffic:
        raise ValidationException(
            f"{needed} is required for a TrafficRoutingConfiguration of Type {traffic['Type']}."
        )
    if needed:
        _check_size(needed, traffic[needed], instances)


def _check_size(
    member: str,
    size: Mapping[str, Any],
    instances: int,
    percents: tuple[int, int] | None = None,
) -> None:
    low, high = percents or _PERCENT[member]
    if size["Type"] == "CAPACITY_PERCENT":
        if not low <= size["Value"] <= high:
            raise ValidationException(
                f"{member} of {size['Value']} CAPACITY_PERCENT is not between {low} and {high}."
            )
    # A fleet of one instance has no half: its only batch is the whole of it.
    elif size["Value"] > max(1, math.floor(instances * high / 100)):
        raise ValidationException(
            f"{member} of {size['Value']} instances is more than {high} percent of the "
            f"{instances} instances of the variants."
        )


def _check_timeout(config: Mapping[str, Any], live: Target, target: Target) -> None:
    timeout = timeout_seconds(config)
    waits = sum(step.bake_seconds for step in steps_of(config, live, target))
    waits += termination_seconds(config)
    if timeout is not None and timeout <= waits:
        raise ValidationException(
            f"MaximumExecutionTimeoutInSeconds ({timeout:g}) must be greater than the sum of all "
            f"wait intervals and of TerminationWaitInSeconds ({waits:g})."
        )


def _fraction(size: Mapping[str, Any], counts: Mapping[str, int]) -> float:
    if size["Type"] == "CAPACITY_PERCENT":
        return min(1.0, size["Value"] / 100)
    return min(1.0, size["Value"] / max(1, sum(counts.values())))


def _levels(size: Mapping[str, Any], counts: Mapping[str, int]) -> tuple[float, ...]:
    """Shares that grow by a size until all is reached."""
    part = _fraction(size, counts)
    steps = math.ceil(round(1.0 / part, 9))
    return (*(min(1.0, round(part * number, 9)) for number in range(1, steps)), 1.0)


def _batches(size: Mapping[str, Any], counts: Mapping[str, int]) -> tuple[float, ...]:
    """The same in whole instances: a batch is at least one."""
    total = max(1, sum(counts.values()))
    batch = max(1, math.floor(round(_fraction(size, counts) * total, 6)))
    return _levels({"Type": "INSTANCE_COUNT", "Value": batch}, counts)


def _part(counts: Mapping[str, int], fraction: float) -> dict[str, int]:
    """As many of each variant as make up a fraction, rounded up."""
    return {
        name: min(count, math.ceil(round(count * fraction, 6))) for name, count in counts.items()
    }


def weights(variants: Sequence[Mapping[str, Any]], share: float) -> dict[str, float]:
    """The weights of one fleet's variants that together make up `share`."""
    total = sum(float(one["weight"]) for one in variants)
    if total <= 0:
        return {one["VariantName"]: share / len(variants) for one in variants}
    return {one["VariantName"]: share * float(one["weight"]) / total for one in variants}
