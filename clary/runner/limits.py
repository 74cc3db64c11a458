"""What a program may use: a control group where this user may make one, a watch and resource limits where not."""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH103, PTH106, PTH110, PTH112, PTH118, PTH120

from __future__ import annotations

import contextlib
import os
import time
from typing import NamedTuple

_ROOT = "/sys/fs/cgroup"
_FOLDER = "clary"
_CPU_PERIOD = 100_000  # microseconds
_REMOVE_SECONDS_MAX = 2.0


class Wanted(NamedTuple):
    memory_bytes: int | None
    cpus: float | None
    processes: int | None


class Group(NamedTuple):
    """The control groups of one host, one folder for each controller (v1) or one in all (v2)."""

    version: str  # "v1" | "v2" | "" where there are none
    folders: dict[str, str]  # by controller

    def entrances(self) -> list[str]:
        """The files that a process writes itself into."""
        return sorted({folder + "/cgroup.procs" for folder in self.folders.values()})

    def out_of_memory(self) -> bool:
        """Has the kernel killed a process of this group for want of memory?"""
        folder = self.folders.get("memory")
        if folder is None:
            return False
        name = "memory.oom_control" if self.version == "v1" else "memory.events"
        for line in _read(folder + "/" + name).splitlines():
            word, _, count = line.partition(" ")
            if word == "oom_kill" and count.strip().isdigit():
                return int(count) > 0
        return False

    def remove(self) -> list[str]:
        """Remove the folders; what could not be removed in time is returned."""
        remaining = sorted(set(self.folders.values()))
        deadline = time.monotonic() + _REMOVE_SECONDS_MAX
        while remaining:
            remaining = [folder for folder in remaining if not _removed(folder)]
            if remaining and time.monotonic() > deadline:
                break
            if remaining:
                time.sleep(0.01)  # the last process of the group is still being buried
        return remaining


NO_GROUP = Group("", {})


def make_group(name: str, wanted: Wanted) -> Group:
    """Make the groups that `wanted` asks for; controllers that cannot be used are left out."""
    version, places = controllers()
    if version == "v2":
        return _make_v2(places, name, wanted)
    folders: dict[str, str] = {}
    for controller, settings in _settings_v1(wanted).items():
        if controller not in places:
            continue
        folder = os.path.join(places[controller], _FOLDER, name)
        try:
            os.makedirs(folder, exist_ok=True)
            for file, value in settings:
                _write(folder + "/" + file, value)
        except OSError:
            # Not ours to use (a container, an ordinary user): a watch stands in for it.
            with contextlib.suppress(OSError):
                os.rmdir(folder)
            continue
        folders[controller] = folder
    return Group("v1", folders) if folders else NO_GROUP


def find_group(name: str) -> Group:
    """The folders that `make_group` may have left under this name."""
    version, places = controllers()
    folders = {
        controller: os.path.join(place, _FOLDER, name) for controller, place in places.items()
    }
    kept = {key: folder for key, folder in folders.items() if os.path.isdir(folder)}
    return Group(version, kept) if kept else NO_GROUP


def controllers() -> tuple[str, dict[str, str]]:
    """The version in use and, for each usable controller, the folder of this process's own group."""
    own: dict[str, str] = {}
    unified = ""
    for line in _read("/proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if not names:
            unified = path
        for name in names.split(","):
            own[name] = path
    places = {}
    for name in ("memory", "cpu", "pids"):
        folder = os.path.join(_ROOT, name) + own.get(name, "")
        if name in own and os.access(folder, os.W_OK):
            places[name] = folder.rstrip("/")
    if places:
        return "v1", places
    folder = (_ROOT + unified).rstrip("/")
    usable = set(_read(folder + "/cgroup.controllers").split()) & {"memory", "cpu", "pids"}
    if unified and usable and os.access(folder, os.W_OK):
        return "v2", dict.fromkeys(usable, folder)
    return "", {}


def _settings_v1(wanted: Wanted) -> dict[str, list[tuple[str, str]]]:
    settings: dict[str, list[tuple[str, str]]] = {}
    if wanted.memory_bytes:
        settings["memory"] = [("memory.limit_in_bytes", str(wanted.memory_bytes))]
    if wanted.cpus:
        settings["cpu"] = [
            ("cpu.cfs_period_us", str(_CPU_PERIOD)),
            ("cpu.cfs_quota_us", str(max(1000, int(wanted.cpus * _CPU_PERIOD)))),
        ]
    if wanted.processes:
        settings["pids"] = [("pids.max", str(wanted.processes))]
    return settings


def _make_v2(places: dict[str, str], name: str, wanted: Wanted) -> Group:
    settings = []
    if wanted.memory_bytes:
        settings += [("memory", "memory.max", str(wanted.memory_bytes))]
        settings += [("memory", "memory.swap.max", "0"), ("memory", "memory.oom.group", "0")]
    if wanted.cpus:
        quota = max(1000, int(wanted.cpus * _CPU_PERIOD))
        settings += [("cpu", "cpu.max", f"{quota} {_CPU_PERIOD}")]
    if wanted.processes:
        settings += [("pids", "pids.max", str(wanted.processes))]
    parent = os.path.join(next(iter(places.values())), _FOLDER)
    folder = os.path.join(parent, name)
    enabled = " ".join("+" + controller for controller in sorted(places))
    try:
        os.makedirs(parent, exist_ok=True)
        # A group hands controllers down only while it holds no process itself; where the runner's
        # own group is not empty the kernel refuses, and a watch stands in.
        _write(os.path.dirname(parent) + "/cgroup.subtree_control", enabled)
        _write(parent + "/cgroup.subtree_control", enabled)
        os.makedirs(folder, exist_ok=True)
        held = set()
        for controller, file, value in settings:
            if os.path.exists(folder + "/" + file):
                _write(folder + "/" + file, value)
                held.add(controller)
        return Group("v2", dict.fromkeys(held, folder))
    except OSError:
        with contextlib.suppress(OSError):
            os.rmdir(folder)
        return NO_GROUP


def resource_limits() -> dict[str, tuple[int, int]]:
    """The rlimits of a program; what they cannot say is a group's matter, or that of `memory_watch`."""
    return {"CORE": (0, 0)}


def _removed(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, value: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(value)
