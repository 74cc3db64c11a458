"""Whether the copies of an inference component fit on the instances of its variant, beside those of all others.

What counts is what the instance type has: the machine below may have less or more, and shares it as it can.
Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from clary.engine.instance_types import accelerators_of, size_of
from clary.resources.inference.inference_component_specification import instance_type_of
from clary.store.rows import Row

MEGABYTE = 1024 * 1024
# Cores may be asked in any fraction, and sums of fractions are not exact.
ROUNDING = 1e-6


class Room(NamedTuple):
    """What an instance has, has left, or what a copy asks for."""

    cpus: float
    accelerators: float
    megabytes: float

    def __str__(self) -> str:
        return (
            f"{self.cpus:g} CPU cores, {self.accelerators:g} accelerators and "
            f"{self.megabytes:.0f} MB of memory"
        )


def room_of(instance_type: str) -> Room | None:
    """None of a type that is not known: it is not checked."""
    size, accelerators = size_of(instance_type), accelerators_of(instance_type)
    if size is None or accelerators is None:
        return None
    return Room(size.cpus, accelerators, size.memory_bytes // MEGABYTE)


def needs_of(component: Mapping[str, Any]) -> Room:
    """What one copy asks for: its ComputeResourceRequirements."""
    requirements: Mapping[str, Any] = component.get("needs") or {}
    # A part of an accelerator is taken from a layout that the instance type does not tell.
    whole = not requirements.get("AcceleratorPartitionType")
    return Room(
        requirements.get("NumberOfCpuCoresRequired") or 0,
        (requirements.get("NumberOfAcceleratorDevicesRequired") or 0) if whole else 0,
        requirements.get("MinMemoryRequiredInMb") or 0,
    )


def refusal(
    variant: Mapping[str, Any], asked: Mapping[str, Any], others: Sequence[Mapping[str, Any]]
) -> str | None:
    """The FailureReason where the copies that are asked for do not fit beside those of others.

    `variant` is of the endpoint; of each component the variant that it runs is given: its count and needs.
    """
    instance_type, instances = instance_type_of(variant), instances_of(variant)
    room = room_of(instance_type)
    if room is None:
        return None
    copies, need = int(asked["count"]), needs_of(asked)
    # An instance without a copy is like any other: more than there are copies need not be looked at.
    free = [room] * min(instances, copies + sum(int(one["count"]) for one in others))
    for one in others:
        _take(free, needs_of(one), int(one["count"]))
    most = Room(*(max(values) for values in zip(*free, strict=True))) if free else Room(0, 0, 0)
    left = _take(free, need, copies)
    if not left:
        return None
    return (
        "There is not enough hardware resources on the instances for this endpoint to create a copy "
        f"of the inference component. {copies} copies were asked for and {copies - left} fit: each "
        f"needs {need}. Production variant {variant['VariantName']} has {instances} {instance_type} "
        f"instances, each with {room}; at most {most} are free on one of them. Ask for less, or "
        "for more or larger instances."
    )


def instances_of(variant: Mapping[str, Any]) -> int:
    """Those that a variant has, or may have once SageMaker has scaled it."""
    scaling = variant.get("ManagedInstanceScaling") or {}
    most = scaling.get("MaxInstanceCount") if scaling.get("Status") == "ENABLED" else None
    return max(int(variant["instances"]), most or 0)


def held_by(components: Iterable[Row], endpoint_arn: str, name: str) -> list[dict[str, Any]]:
    """What the components of an endpoint's variant run there, those that came first before the others."""
    found: list[dict[str, Any]] = []
    for row in sorted(components, key=lambda one: one.id):
        if row.state["endpoint"] != endpoint_arn or row.status in ("Failed", "Deleting"):
            continue
        held = row.state.get("live") if row.state.get("refused") else row.state["target"]
        found += [one for one in held["variants"] if one["VariantName"] == name] if held else []
    return found


def _take(free: list[Room], need: Room, copies: int) -> int:
    """Take the room of as many copies as fit, each on the first instance that has it; return how many do not."""
    for number, room in enumerate(free):
        taken = min(copies, _times(room, need))
        free[number] = Room(*(has - taken * asks for has, asks in zip(room, need, strict=True)))
        copies -= taken
    return copies


def _times(room: Room, need: Room) -> int:
    """How many copies fit on what one instance has left."""
    pairs = [(has, asks) for has, asks in zip(room, need, strict=True) if asks]
    times = min((has / asks + ROUNDING for has, asks in pairs), default=math.inf)
    return int(times) if math.isfinite(times) else 2**31
