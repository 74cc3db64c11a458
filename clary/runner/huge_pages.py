"""The memory of a warm parent in huge pages: what it forks then copies and drops hundreds of entries less each."""

from __future__ import annotations

import ctypes

_HUGE_BYTES = 2 << 20
_MADV_COLLAPSE = 25  # of Linux 6.1: at once, and whatever the machine's policy of huge pages is


def gather() -> int:
    """Put what this process has written so far into huge pages where it fills them; how many it became.

    A write in a fork still copies a small page only. Where the kernel cannot do it nothing changes.
    """
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    gathered = 0
    for start, end in _own_memory():
        first = -(-start // _HUGE_BYTES) * _HUGE_BYTES
        for address in range(first, end - _HUGE_BYTES + 1, _HUGE_BYTES):
            # It is refused for a part that nothing was written to, such as most of a thread's arena.
            gathered += madvise(address, _HUGE_BYTES, _MADV_COLLAPSE) == 0
    return gathered


def _own_memory() -> list[tuple[int, int]]:
    """Where this process may write and no file is behind."""
    found: list[tuple[int, int]] = []
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                span, mode, _, _, inode, *name = line.split(None, 5)
                if mode == "rw-p" and inode == "0" and (not name or name[0].strip() == "[heap]"):
                    start, _, end = span.partition("-")
                    found.append((int(start, 16), int(end, 16)))
    except OSError:
        return []  # no Linux
    return found
