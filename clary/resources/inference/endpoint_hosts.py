"""The hosts of an endpoint by key: its variant, revision, instance and, of several, its container."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clary.store.rows import Row

Target = Mapping[str, Any]  # {"revision", "config", "variants": [{"VariantName", "count", ...}]}


@dataclass(frozen=True, slots=True)
class HostKey:
    """What a key says: `A-r3-i0`, or `A-r3-i0c1` where the instance runs several containers."""

    variant: str
    revision: int
    instance: int
    container: int = 0

    @staticmethod
    def parse(key: str) -> HostKey:
        variant, revision, last = key.rsplit("-", 2)
        instance, _, container = last.removeprefix("i").partition("c")
        return HostKey(variant, int(revision.removeprefix("r")), int(instance), int(container or 0))


def host_keys(target: Target | None, counts: Mapping[str, int] | None = None) -> tuple[str, ...]:
    """The keys of all hosts that a target asks for, or of the first `counts` instances of its variants."""
    keys: list[str] = []
    for variant in variants_of(target):
        count = int(variant["count"])
        if counts is not None:
            count = min(count, counts.get(variant["VariantName"], 0))
        for number in range(count):
            keys += instance_keys(target, variant, number)
    return tuple(keys)


def instance_keys(
    target: Target | None, variant: Mapping[str, Any], number: int
) -> tuple[str, ...]:
    """The hosts of one instance: one for each of its containers."""
    assert target is not None
    stem = f"{variant['VariantName']}-r{target['revision']}-i{number}"
    containers = len(containers_of(variant))
    if containers <= 1:
        return (stem,)
    return tuple(f"{stem}c{index}" for index in range(containers))


def variants_of(target: Target | None) -> Sequence[Mapping[str, Any]]:
    """All variants that need hosts, shadows included."""
    if not target:
        return ()
    return (*target["variants"], *target.get("shadows", ()))


def containers_of(variant: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    return variant.get("containers") or [variant.get("container") or {}]


def adapter_of(row: Row) -> dict[str, Any] | None:
    """Of an adapter component: {"name", "base", "uri"}; it has no hosts of its own."""
    live = row.state.get("live") or row.state.get("target")
    return (live or {"variants": [{}]})["variants"][0].get("adapter")


def counts_of(target: Target | None) -> dict[str, int]:
    return {variant["VariantName"]: int(variant["count"]) for variant in variants_of(target)}


def instance_of(key: str) -> str:
    """The instance that a host belongs to: its key without the container."""
    return key.rpartition("c")[0] if "c" in key.rsplit("-", 1)[1] else key


def variant_of(key: str) -> tuple[str, int]:
    """(variant name, revision) of a host's key."""
    parsed = HostKey.parse(key)
    return parsed.variant, parsed.revision
