"""Reading a tree that a hostile program may be changing: no link is followed, nothing blocks.

The program owns everything below its /opt/ml, and may swap a directory for a link to `/etc`
between a look and a read. So each component is opened from its parent's descriptor with
O_NOFOLLOW, and only regular files are read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DEPTH_MAX = 200
# What a path that vanished, or became a link or a file meanwhile, answers.
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a FIFO would wait for its writer for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Entry(NamedTuple):
    path: str  # relative to the walked directory, with "/"
    kind: str  # file | directory | link
    size: int
    mtime_ns: int
    mode: int
    target: str  # of a link


def open_directory(root: Path, relative: str) -> int:
    """A descriptor of a directory beneath `root`; raise OSError where a link is in the way."""
    descriptor = os.open(root, _DIRECTORY)
    try:
        for part in _parts(relative):
            below = os.open(part, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_file(root: Path, relative: str) -> int:
    """A descriptor of a regular file beneath `root`; raise OSError for anything else."""
    parts = _parts(relative)
    parent = open_directory(root, "/".join(parts[:-1]))
    try:
        descriptor = os.open(parts[-1], _FILE, dir_fd=parent)
    finally:
        os.close(parent)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{relative} is not a regular file")
    return descriptor


def read_file(root: Path, relative: str, bound: int) -> bytes | None:
    """The first `bound` bytes of a file the program may have left; None where it left none."""
    try:
        descriptor = open_file(root, relative)
    except OSError:
        return None
    try:
        return os.read(descriptor, bound)
    finally:
        os.close(descriptor)


def walk(root: Path, relative: str) -> Iterator[Entry]:
    """Every file, directory and link below, each directory's names in order; nothing if absent.

    Devices, sockets and FIFOs are passed over, as is what vanishes meanwhile.
    """
    pending = [""]
    while pending:
        directory = pending.pop()
        if directory.count("/") > DEPTH_MAX:
            continue
        try:
            descriptor = open_directory(root, f"{relative}/{directory}")
        except OSError as problem:
            if problem.errno not in GONE:
                raise
            continue
        try:
            entries = _entries(descriptor, directory)
        finally:
            os.close(descriptor)
        yield from entries
        pending.extend(entry.path for entry in reversed(entries) if entry.kind == "directory")


def _entries(descriptor: int, directory: str) -> list[Entry]:
    found: list[Entry] = []
    with os.scandir(descriptor) as items:
        for item in items:
            try:
                status = item.stat(follow_symlinks=False)
                target = ""
                if stat.S_ISREG(status.st_mode):
                    kind = "file"
                elif stat.S_ISDIR(status.st_mode):
                    kind = "directory"
                elif stat.S_ISLNK(status.st_mode):
                    kind = "link"
                    target = os.readlink(item.name, dir_fd=descriptor)
                else:
                    continue
            except FileNotFoundError:
                continue
            path = f"{directory}/{item.name}" if directory else item.name
            mode = stat.S_IMODE(status.st_mode)
            found.append(Entry(path, kind, status.st_size, status.st_mtime_ns, mode, target))
    found.sort()
    return found


def _parts(relative: str) -> list[str]:
    parts = [part for part in relative.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise OSError(f"{relative!r} leaves its directory")
    return parts
