"""How much memory the models of one process may take, and whether there is room for another."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

FILES_MAX = 100_000
_CGROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# What a model takes is not known before it is loaded; it is seldom less than its files.
_RESERVE = 0.95


def check_room(folder: Path | None, limit: int) -> None:
    """Raise MemoryError where the process, with a folder's model beside, would pass the limit."""
    more = size_of(folder) if folder else 0
    if used() + more <= limit:
        return
    reclaim()
    taken = used()
    if taken + more > limit:
        raise MemoryError(
            f"The models take {taken >> 20} MiB, this one would take {more >> 20} MiB or more, and "
            f"{limit >> 20} MiB are allowed."
        )


def limit_of(wanted_bytes: int) -> int:
    """The limit that is asked for, else what the container or the machine has."""
    if wanted_bytes:
        return wanted_bytes
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _CGROUP_FILES:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    return int(min(found) * _RESERVE)


def used() -> int:
    """What this process keeps in memory now, in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def size_of(folder: Path) -> int:
    """How many bytes the files of a folder hold; the count of files is bounded."""
    total = count = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            count += 1
            if count > FILES_MAX:
                return total
            try:
                total += os.lstat(os.path.join(directory, name)).st_size  # noqa: PTH118
            except OSError:
                continue
    return total


def reclaim() -> None:
    """Give back what unloaded models have left."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        # Only glibc has it; elsewhere the allocator decides.
        return
