"""The private root of a program: only what its recipe mounts exists there, and little of it is writable."""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH102, PTH103, PTH110, PTH112, PTH120, PTH211

from __future__ import annotations

import os
import stat

from clary.runner import namespaces

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# A process of user 0 may write these even without capabilities: they decide about the whole machine.
_PROC_READ_ONLY = ("sys", "sysrq-trigger", "irq", "bus", "fs")


def build(folder: str, mounts: list[list[str]]) -> None:
    """Mount a root below `folder` and move into it; the caller is process 1 of new namespaces."""
    namespaces.mount(None, "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
    flags = namespaces.MS_NOSUID | namespaces.MS_NODEV
    namespaces.mount("tmpfs", folder, "tmpfs", flags, "mode=0755,size=64m")
    for kind, source, target in mounts:
        _add(kind, source, target, folder)
    namespaces.mount(None, folder, None, namespaces.MS_REMOUNT | namespaces.MS_BIND | flags | 1)
    namespaces.enter_root(folder)


def _add(kind: str, source: str, target: str, folder: str) -> None:
    place = folder + target
    if kind in ("read", "write"):
        _make_place(folder, target, directory=os.path.isdir(source))
        namespaces.bind(source, place, writable=kind == "write")
    elif kind == "layer":
        _make_place(folder, target, directory=True)
        _add_layer(source, target, place)
    elif kind == "device":
        _make_place(folder, target, directory=os.path.isdir(source))
        namespaces.bind_device(source, place)
    elif kind == "link":
        _make_place(folder, os.path.dirname(target), directory=True)
        os.symlink(source, place)
    elif kind == "folder":
        _make_place(folder, target, directory=True)
    elif kind == "proc":
        _mount_proc(folder, target)
    elif kind == "devices":
        _mount_devices(folder, target)
    else:
        raise ValueError(f"mount of unknown kind {kind!r}")


def _add_layer(store: str, lower: str, place: str) -> None:
    """`lower` with a layer of its own above it that takes what is written; read-only where that cannot be had."""
    upper, work = store + "/upper", store + "/work"
    options = f"lowerdir={lower},upperdir={upper},workdir={work},userxattr"
    flags = namespaces.MS_NOSUID | namespaces.MS_NODEV
    try:
        os.makedirs(upper, exist_ok=True)
        os.makedirs(work, exist_ok=True)
        if "," in lower + store or ":" in lower + store:
            raise OSError("a path of the layer cannot be written as a mount option")
        namespaces.mount("overlay", place, "overlay", flags, options)
    except OSError:
        namespaces.bind(lower, place, writable=False)


def _make_place(folder: str, target: str, directory: bool) -> None:
    """Create the point to mount on; refuse links, which a former program may have left in its folders."""
    parts = [part for part in target.split("/") if part]
    if ".." in parts:
        raise ValueError(f"mount target {target} climbs")
    place = folder
    for index, part in enumerate(parts):
        place = place + "/" + part
        last = index == len(parts) - 1
        try:
            mode = os.lstat(place).st_mode
        except FileNotFoundError:
            if last and not directory:
                os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            else:
                os.mkdir(place, 0o755)
            continue
        if stat.S_ISLNK(mode):
            raise ValueError(f"mount target {target} leads through a link")


def _mount_proc(folder: str, target: str) -> None:
    _make_place(folder, target, directory=True)
    place = folder + target
    flags = namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC
    namespaces.mount("proc", place, "proc", flags)
    for name in _PROC_READ_ONLY:
        path = place + "/" + name
        if os.path.exists(path):
            namespaces.bind(path, path, writable=False)


def _mount_devices(folder: str, target: str) -> None:
    _make_place(folder, target, directory=True)
    place = folder + target
    flags = namespaces.MS_NOSUID | namespaces.MS_NOEXEC
    namespaces.mount("tmpfs", place, "tmpfs", flags, "mode=0755,size=1m")
    for name in _DEVICES:
        if os.path.exists("/dev/" + name):
            os.close(os.open(place + "/" + name, os.O_CREAT | os.O_WRONLY, 0o666))
            namespaces.bind_device("/dev/" + name, place + "/" + name)
    for name, text in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink("/proc/self/fd" + text, place + "/" + name)
    for name in ("pts", "shm"):
        os.mkdir(place + "/" + name, 0o755)
    flags |= namespaces.MS_NODEV
    namespaces.mount("tmpfs", place + "/shm", "tmpfs", flags, "mode=1777")
    flags = namespaces.MS_NOSUID | namespaces.MS_NOEXEC
    options = "newinstance,ptmxmode=0666,mode=620"
    namespaces.mount("devpts", place + "/pts", "devpts", flags, options)
    os.symlink("pts/ptmx", place + "/ptmx")
