"""Reading files that a program wrote: no link of its making may lead the runner elsewhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_text(root: Path, relative: str, characters_max: int) -> str:
    """The start of a regular file below `root`; empty when there is none, or a link on the way to it."""
    parts = [part for part in relative.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        return ""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(part, flags, dir_fd=folder)
            os.close(folder)
            folder = inner
        # A pipe must not block the runner either.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(parts[-1], flags, dir_fd=folder)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return ""
            return file.read(4 * characters_max).decode("utf-8", "replace")[:characters_max]
    except OSError:
        return ""
    finally:
        os.close(folder)
