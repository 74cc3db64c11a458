"""What a serving process leaves running when it dies: ended before another one takes its place."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Collection

PR_SET_CHILD_SUBREAPER = 36
END_SECONDS_MAX = 2.0


def adopt() -> bool:
    """Become the parent of orphans among this process's descendants, so that they can be found."""
    try:
        return ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    except (OSError, AttributeError):
        return False  # another system than Linux: they are left as they are


def end(kept: Collection[int]) -> None:
    """Kill and bury this process's children but for `kept`, and what they leave in their turn."""
    deadline = time.monotonic() + END_SECONDS_MAX
    while time.monotonic() < deadline:
        found = [child for child in _children() if child not in kept]
        if not found:
            return
        for child in found:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
        bury(kept)
        time.sleep(0.002)


def bury(kept: Collection[int]) -> None:
    """Take note of the orphans that have ended."""
    for child in _children():
        if child not in kept:
            try:
                os.waitpid(child, os.WNOHANG)
            except ChildProcessError:
                continue


def _children() -> list[int]:
    path = f"/proc/self/task/{os.getpid()}/children"
    try:
        with open(path, encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []
