"""File locks that live exactly as long as their process: the proof of who is alive."""

from __future__ import annotations

import os
import time

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


_PATIENCE_SECONDS = 0.1


def take(path: str) -> int | None:
    """Lock a file, creating it; None when another process holds it. Closing the descriptor lets go.

    A forked child shares the lock: it must close the descriptor at once.
    """
    if fcntl is None:
        raise OSError("file locks need a POSIX system")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                # An observer holds the lock for an instant while it asks; a holder keeps it.
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    return None
                time.sleep(0.005)
    except OSError:
        os.close(descriptor)
        raise


def take_folder(path: str, seconds: float) -> int:
    """Lock a folder, which leaves no file behind; raise TimeoutError when others keep it that long."""
    if fcntl is None:
        raise OSError("file locks need a POSIX system")
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise TimeoutError(f"{path} is locked by another process") from None
            time.sleep(0.005)


def is_held(path: str) -> bool:
    """Does a process hold the lock? False as well when the file was never made."""
    if fcntl is None:
        raise OSError("file locks need a POSIX system")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # A shared lock, so that two observers never take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
