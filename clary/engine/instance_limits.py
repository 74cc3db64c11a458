"""How much of this machine one host of a job or an endpoint may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from clary.engine.instance_types import size_of

INSTANCE_TYPE = "instance-type"  # what CLARY_INSTANCE_LIMITS may say
RESERVE_BYTES_MAX = 2 * 1024**3
MEMORY_BYTES_MIN = 256 * 1024**2
_CONTROL_GROUPS = ("memory.max", "memory/memory.limit_in_bytes")


class Machine(NamedTuple):
    memory_bytes: int  # 0 where it cannot be told
    cpus: int


class HostLimits(NamedTuple):
    memory_bytes: int | None
    cpus: float | None


def machine(control_groups: Path = Path("/sys/fs/cgroup")) -> Machine:
    """This machine, or the part of it that the container which Clary runs in may use."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        memory = 0
    for name in _CONTROL_GROUPS:
        try:
            text = (control_groups / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and 0 < int(text) < memory:
            memory = int(text)
    return Machine(memory, os.cpu_count() or 1)


def limits_of(
    found: Machine, policy: str, instance_type: str, asked_bytes: int | None = None
) -> HostLimits:
    """The limits of one host; `asked_bytes` is what the request itself names, as for serverless.

    Whatever the type, a host never gets all of this machine: a program that runs away must be killed
    and not the machine. Processors are limited only where that makes a difference.
    """
    allowed = []
    if found.memory_bytes:
        reserve = min(RESERVE_BYTES_MAX, found.memory_bytes // 8)
        allowed.append(max(MEMORY_BYTES_MIN, found.memory_bytes - reserve))
    if asked_bytes:
        allowed.append(asked_bytes)
    size = size_of(instance_type) if policy == INSTANCE_TYPE else None
    if size is not None:
        allowed.append(size.memory_bytes)
    cpus = float(size.cpus) if size is not None and size.cpus < found.cpus else None
    return HostLimits(min(allowed, default=None), cpus)
