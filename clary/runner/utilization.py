"""How much of a host its program uses: CPUUtilization and MemoryUtilization, in percent, each minute.

As SageMaker has it, the first is the sum over all CPUs: 100 is one of them, and a host of four can have 400.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from .credentials import Provider
from .memory_watch import below, proportional, resident
from .metrics import Datapoint, MetricShipper
from .network_entry import supervisor_of
from .spec import HostSpec

INTERVAL_SECONDS = 60.0
_LOOKS_PER_SHARE = 10
_SHORTEST_SECONDS = 1.0  # less is too little to tell a rate from


class Used(NamedTuple):
    cpu_seconds: float  # since the program began
    memory_bytes: int


class Utilization:
    """A `metrics.Source`: each time it is asked, what was used since the time before."""

    def __init__(
        self,
        memory_bytes: int,
        look: Callable[[], Used | None],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._memory_bytes = memory_bytes
        self._look = look
        self._clock = clock
        self._now = now
        self._looked = clock()
        self._cpu_seconds = 0.0

    def take(self, count: int) -> list[Datapoint]:
        """Both metrics, or none: a shipper asks again as soon as it has sent them."""
        moment = self._clock()
        passed = moment - self._looked
        used = self._look() if passed >= _SHORTEST_SECONDS else None
        if used is None:
            return []
        # What a process that ended on its own has used may be gone with it: it was not negative.
        cpu = max(0.0, used.cpu_seconds - self._cpu_seconds) / passed
        self._looked, self._cpu_seconds = moment, used.cpu_seconds
        at, share = self._now(), used.memory_bytes / self._memory_bytes
        found = (("CPUUtilization", cpu), ("MemoryUtilization", share))
        return [Datapoint(name, 100.0 * value, at, "Percent") for name, value in found][:count]


def start(spec: HostSpec, process: int, lock: str) -> Callable[[], object]:
    """Send both each minute, if the spec says where, until what is returned is called."""
    if spec.utilization is None:
        return lambda: None
    processes = Processes(lambda: [process, supervisor_of(lock)])
    source = Utilization(spec.limits.memory_bytes or machine_bytes(), processes.look)
    return MetricShipper(
        spec,
        Provider(spec, "service"),
        source,
        place=spec.utilization,
        interval_seconds=INTERVAL_SECONDS,
    ).abandon


class Processes:
    """What some processes and all that they started use.

    To tell who shares which page, the kernel walks through all of them, which takes 20 ms and more
    for each GiB of each process. So the part that is shared is looked up now and then only.
    """

    def __init__(self, roots: Callable[[], list[int]]) -> None:
        self._roots = roots
        self._looks = 0
        self._own_share = 1.0  # of what is resident, with pages of several processes counted once

    def look(self) -> Used | None:
        """None once they are gone."""
        found = below(self._roots())
        times = [one for one in map(_cpu_seconds, found) if one is not None]
        if not times:
            return None
        held = sum(map(resident, found))
        if held and self._looks % _LOOKS_PER_SHARE == 0:
            self._own_share = min(1.0, sum(map(proportional, found)) / held)
        self._looks += 1
        return Used(sum(times), int(held * self._own_share))


def machine_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cpu_seconds(process: int) -> float | None:
    """Of the process itself, and of its children that have ended: theirs is then its own."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None  # it has ended
