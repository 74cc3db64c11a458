"""The memory of a program and all it started, added up: the limit where no control group can be made.

A limit of the address space would be cheaper, and wrong: numeric libraries and CUDA reserve far more
addresses than they use. What is counted is what only this program makes the machine hold.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from clary.runner.bubblewrap import children

LOOK_SECONDS = 0.25
_PROCESSES_MAX = 10_000


class MemoryWatch:
    """`roots` are the processes below which all of the program's are."""

    def __init__(self, bytes_max: int, roots: Callable[[], list[int]]) -> None:
        self.bytes_max = bytes_max
        self._roots = roots
        self._look_at = 0.0

    def is_exceeded(self) -> bool:
        """Look, unless that was done a moment ago."""
        now = time.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_SECONDS
        processes = below(self._roots())
        # Adding up what is resident counts shared pages more than once, and is cheap: look closer
        # only when even that is too much.
        if sum(resident(process) for process in processes) <= self.bytes_max:
            return False
        return sum(proportional(process) for process in processes) > self.bytes_max


def below(roots: list[int]) -> set[int]:
    """These processes and all that they started, as far as it still runs."""
    found: set[int] = set()
    waiting = [process for process in roots if process > 0]
    while waiting and len(found) < _PROCESSES_MAX:
        process = waiting.pop()
        if process not in found:
            found.add(process)
            waiting += children(process)
    return found


def resident(process: int) -> int:
    try:
        with open(f"/proc/{process}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0  # it has ended


def proportional(process: int) -> int:
    """The process's share of the pages it has; all of them where the kernel does not tell."""
    try:
        with open(f"/proc/{process}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return resident(process)
    return 0  # it has no memory any more
