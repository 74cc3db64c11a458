"""A recipe as bubblewrap's command line, and what bubblewrap's processes and exit codes mean."""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH110, PTH208

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable
from typing import Any

_OPTIONS = {"read": "--ro-bind", "write": "--bind", "device": "--dev-bind", "link": "--symlink"}
_LONE_OPTIONS = {"folder": "--dir", "proc": "--proc", "devices": "--dev"}
# Unhandled, these end a program; bubblewrap passes them on as 128 + number, like a shell.
_FATAL_SIGNALS = (4, 6, 7, 8, 9, 11)


def find() -> str | None:
    return shutil.which("bwrap", path="/usr/bin:/usr/local/bin:/bin:" + os.environ.get("PATH", ""))


def argument_file(recipe: dict[str, Any], user: int, info: int) -> int:
    """A descriptor that holds bubblewrap's arguments: the environment must not show in a process list."""
    descriptor = os.memfd_create("arguments")
    os.set_inheritable(descriptor, True)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(b"".join(os.fsencode(word) + b"\0" for word in options(recipe, user, info)))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def options(recipe: dict[str, Any], user: int, info: int) -> list[str]:
    """The options that run the recipe; `info` is the descriptor that hears the child's number."""
    argv = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
    argv += ["--new-session", "--hostname", recipe["hostname"], "--info-fd", str(info)]
    if user != 0:
        argv += ["--unshare-user", "--uid", "0", "--gid", "0"]
    argv += ["--cap-drop", "ALL"]
    for kind, source, target in recipe["mounts"]:
        if kind == "layer":
            kind, source = "read", target  # bubblewrap of today cannot lay one over the other
        if kind in _LONE_OPTIONS:
            argv += [_LONE_OPTIONS[kind], target]
        else:
            argv += [_OPTIONS[kind], source, target]
    argv += ["--remount-ro", "/", "--chdir", recipe["directory"]]
    for name, value in recipe["environment"].items():
        argv += ["--setenv", name, value]
    return argv


def program_status(status: int, sent: Iterable[int]) -> int:
    """The wait status of the program, told from that of bubblewrap and the signals it was `sent`."""
    if os.WIFEXITED(status):
        number = os.WEXITSTATUS(status) - 128
        if number in _FATAL_SIGNALS or number in sent:
            return number
    return status


def signal_program(init: int, number: int) -> None:
    """Signal the program below bubblewrap's process 1; one that is still being set up is waited for."""
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        found = children(init) if init else []
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        if found:
            return
        time.sleep(0.005)


def children(process: int) -> list[int]:
    """The child processes of a process; none if it is gone."""
    try:
        with open(f"/proc/{process}/task/{process}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return _children_by_search(process) if os.path.exists(f"/proc/{process}") else []


def _children_by_search(process: int) -> list[int]:
    """Not every kernel lists children: look at every process's parent."""
    return [
        int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(name) == process
    ]


def _parent(process: str) -> int:
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0  # it has ended meanwhile
