"""What scaling policies make of the metrics: the capacity that a target should have. Pure.

Of several policies the one that wants most capacity wins, and capacity only goes down when every target-tracking policy
that may scale in wants it to, as Application Auto Scaling documents for multiple policies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COOLDOWN_SECONDS_DEFAULT = 300  # of SageMaker's dimensions
# Scaling in begins well below the target, so that capacity does not swing.
LOW_FRACTION = 0.9


@dataclass(frozen=True, slots=True)
class Bounds:
    low: int
    high: int
    out_suspended: bool = False
    in_suspended: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one policy wants now."""

    policy: str
    capacity: int
    cause: str
    tracks: bool = False  # a target-tracking policy, whose consent scaling in needs


@dataclass(frozen=True, slots=True)
class Tracking:
    """A target-tracking policy, its alarms and the newest value of its metric."""

    name: str
    config: Mapping[str, Any]
    high_alarm: str
    low_alarm: str
    is_high: bool = False
    is_low: bool = False
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Stepping:
    """A step-scaling policy and an alarm of its that is in ALARM."""

    name: str
    config: Mapping[str, Any]
    alarm: str
    threshold: float
    value: float | None = None


@dataclass(frozen=True, slots=True)
class History:
    """When the target last scaled, in epoch seconds; 0 for never."""

    last_out: float = 0.0
    last_in: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A capacity to set, or the reason why nothing is done although a policy wanted something."""

    capacity: int | None = None
    proposal: Proposal | None = None
    reason: str = ""  # NotScaledReason code


def decide(
    current: int,
    bounds: Bounds,
    policies: Sequence[Tracking | Stepping],
    history: History,
    now: float,
) -> Outcome:
    """The capacity to set now, if any."""
    tracking = [one for one in policies if isinstance(one, Tracking)]
    proposals = [
        found
        for one in policies
        if (
            found := _tracked(one, current) if isinstance(one, Tracking) else _stepped(one, current)
        )
    ]
    configs = {one.name: one.config for one in policies}
    outs = [one for one in proposals if one.capacity > current]
    if outs:
        best = max(outs, key=lambda one: one.capacity)
        if bounds.out_suspended:
            return Outcome(proposal=best, reason="ScalingOutSuspended")
        if now - history.last_out < cooldown(configs[best.policy], out=True):
            return Outcome(proposal=best, reason="CooldownInProgress")
        return _within(best, current, bounds)
    ins = [one for one in proposals if one.capacity < current]
    must_agree = {one.name for one in tracking if not one.config.get("DisableScaleIn")}
    if not ins or not must_agree <= {one.policy for one in ins if one.tracks}:
        return Outcome()
    best = max(ins, key=lambda one: one.capacity)
    if bounds.in_suspended:
        return Outcome(proposal=best, reason="ScalingInSuspended")
    since = max(history.last_in, history.last_out)
    if now - since < cooldown(configs[best.policy], out=False):
        return Outcome(proposal=best, reason="CooldownInProgress")
    return _within(best, current, bounds)


def cooldown(config: Mapping[str, Any], *, out: bool) -> float:
    if "Cooldown" in config or "StepAdjustments" in config:
        given = config.get("Cooldown")
    else:
        given = config.get("ScaleOutCooldown" if out else "ScaleInCooldown")
    return float(COOLDOWN_SECONDS_DEFAULT if given is None else given)


def clamped(capacity: int, bounds: Bounds) -> int:
    return max(bounds.low, min(bounds.high, capacity))


def _within(proposal: Proposal, current: int, bounds: Bounds) -> Outcome:
    capacity = clamped(proposal.capacity, bounds)
    if proposal.capacity > current:
        if capacity <= current:
            return Outcome(proposal=proposal, reason="AlreadyAtMaxCapacity")
    elif capacity >= current:
        return Outcome(proposal=proposal, reason="AlreadyAtMinCapacity")
    return Outcome(capacity, proposal)


def _tracked(policy: Tracking, current: int) -> Proposal | None:
    """As much capacity as brings a metric that is spread over it back to its target."""
    if policy.value is None or not (policy.is_high or policy.is_low):
        return None
    target = float(policy.config["TargetValue"])
    fitting = math.ceil(round(max(current, 1) * policy.value / target, 6))
    if policy.is_high:
        capacity, alarm = max(fitting, current + 1), policy.high_alarm
    elif not policy.config.get("DisableScaleIn"):
        capacity, alarm = min(fitting, current), policy.low_alarm
    else:
        return None
    cause = f"monitor alarm {alarm} in state ALARM triggered policy {policy.name}"
    return Proposal(policy.name, capacity, cause, tracks=True)


def _stepped(policy: Stepping, current: int) -> Proposal | None:
    if policy.value is None:
        return None
    difference = policy.value - policy.threshold
    for step in policy.config["StepAdjustments"]:
        low, high = step.get("MetricIntervalLowerBound"), step.get("MetricIntervalUpperBound")
        if _is_inside(difference, low, high):
            capacity = _adjusted(policy.config, step["ScalingAdjustment"], current)
            cause = f"monitor alarm {policy.alarm} in state ALARM triggered policy {policy.name}"
            return Proposal(policy.name, capacity, cause)
    return None


def _is_inside(difference: float, low: float | None, high: float | None) -> bool:
    """Above the threshold the lower bound belongs to a step, below it the upper bound does."""
    below = -math.inf if low is None else low
    above = math.inf if high is None else high
    if difference >= 0:
        return below <= difference < above
    return below < difference <= above


def _adjusted(config: Mapping[str, Any], adjustment: int, current: int) -> int:
    match config.get("AdjustmentType"):
        case "ExactCapacity":
            return max(0, adjustment)
        case "PercentChangeInCapacity":
            change = _rounded(current * adjustment / 100)
            least = config.get("MinAdjustmentMagnitude") or 0
            if change and abs(change) < least:
                change = int(math.copysign(least, change))
            return max(0, current + change)
        case _:
            return max(0, current + adjustment)


def _rounded(change: float) -> int:
    """PercentChangeInCapacity documents its rounding: towards zero, but never to nothing."""
    if 0 < change < 1:
        return 1
    if -1 < change < 0:
        return -1
    return int(change)
