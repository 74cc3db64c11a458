"""Unix sockets of one owner: claimed by a lock, reachable even where the path is too long for the kernel."""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH103, PTH104, PTH108, PTH116, PTH119, PTH120

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

from clary.runner import locks

_PATH_BYTES_MAX = 107  # sun_path of Linux, less the final zero


@contextlib.contextmanager
def _short(path: str) -> Iterator[str]:
    """A name of the same socket that fits: through a descriptor of its folder when it must be."""
    if len(os.fsencode(path)) <= _PATH_BYTES_MAX:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


def claim(path: str) -> int | None:
    """Take the exclusive right to listen at `path`; the descriptor holds it until closed. None: taken."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    return locks.take(path + ".lock")


def listen(path: str, backlog: int) -> socket.socket:
    """Listen at `path`, for its owner only; the caller has claimed it, so what lies there is stale."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fresh = f"{path}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    before = os.umask(0o177)
    try:
        with _short(fresh) as name:
            listener.bind(name)
    finally:
        os.umask(before)
    listener.listen(backlog)
    # A client either finds no socket, or one that already listens.
    os.rename(fresh, path)
    return listener


def connect(path: str, seconds: float) -> socket.socket:
    """Connect, or raise OSError; a socket whose owner is gone raises ConnectionRefusedError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        with _short(path) as name:
            connection.connect(name)
    except BaseException:
        connection.close()
        raise
    return connection


def retire(path: str) -> None:
    """Remove a socket and wake its owner, who ends when it finds the socket gone."""
    connection = connect(path, 1.0)
    os.unlink(path)
    connection.close()


def poke(path: str) -> None:
    """Send an empty datagram: a hint, so whether anybody listens does not matter."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            with _short(path) as name:
                sender.sendto(b"", name)
        except OSError as problem:
            # No listener, or one that has hints enough: it looks by itself sooner or later.
            expected = (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN, errno.ENOBUFS)
            if problem.errno not in (*expected, errno.ENOTDIR):
                raise


def is_same(path: str, identity: int) -> bool:
    """Is the socket at `path` still the file with this inode number?"""
    try:
        return os.stat(path).st_ino == identity
    except OSError:
        return False
