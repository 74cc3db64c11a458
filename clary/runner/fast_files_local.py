"""Objects that the door keeps on this same machine, read from their own files instead of through it.

The door names the file of an object to whoever it lets read it, in its answer to a GET. The file is then
open, for reading only, and stays what it was: an object that is replaced or deleted gets another file.
Where there is no such file (another machine, another user, a store elsewhere) nothing is lost but time.
"""

from __future__ import annotations

import os
import stat
import threading
from collections import OrderedDict
from typing import NamedTuple
from urllib.parse import unquote

from .connections import Answer

HEADER = "x-clary-file"  # asked for with any value; answered by inode, time of change and path
FILES_MAX = 128


class Changed(Exception):
    """Somebody wrote into the file, past the door."""


class _Open:
    __slots__ = ("descriptor", "identity", "readers")

    def __init__(self, descriptor: int, identity: Identity) -> None:
        self.descriptor = descriptor
        self.identity = identity
        self.readers = 0


class Identity(NamedTuple):
    inode: int
    changed: int  # st_mtime_ns
    size: int


class LocalFiles:
    """A bounded number of open files, by any key; safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[object, _Open] = OrderedDict()
        self._memory = threading.local()

    def adopt(self, key: object, answer: Answer, size: int) -> None:
        """Open the file that an answer names, if it is the very one that was answered from."""
        words = answer.headers.get(HEADER, "").split(" ")
        if len(words) != 3 or not (words[0].isdigit() and words[1].isdigit()):
            return
        expected = Identity(int(words[0]), int(words[1]), size)
        try:
            descriptor = os.open(
                unquote(words[2], errors="surrogateescape"),
                os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK,
            )
        except OSError:
            return
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or _identity(about) != expected:
            os.close(descriptor)
            return
        with self._lock:
            if key in self._open:
                os.close(descriptor)
                return
            self._open[key] = _Open(descriptor, expected)
            if len(self._open) > FILES_MAX:
                self._close_one()

    def read(self, key: object, start: int, end: int) -> memoryview | None:
        """A range, None where no file is open; raise Changed, or OSError.

        What is returned is overwritten by the next read of the same thread.
        """
        with self._lock:
            file = self._open.get(key)
            if file is None:
                return None
            self._open.move_to_end(key)
            file.readers += 1
        try:
            # Memory that is used again need not be found and cleared by the kernel for every read.
            buffer = getattr(self._memory, "buffer", b"")
            if len(buffer) < end - start:
                buffer = self._memory.buffer = bytearray(end - start)
            data = memoryview(buffer)[: end - start]
            data = data[: os.preadv(file.descriptor, [data], start)]
            # Looked at after the read: what was read then is from before any change.
            if _identity(os.fstat(file.descriptor)) != file.identity:
                raise Changed
            return data
        finally:
            with self._lock:
                file.readers -= 1

    def close(self) -> None:
        with self._lock:
            for key in [key for key, file in self._open.items() if not file.readers]:
                os.close(self._open.pop(key).descriptor)

    def _close_one(self) -> None:
        for key, file in self._open.items():
            if not file.readers:
                os.close(file.descriptor)
                del self._open[key]
                return


def _identity(about: os.stat_result) -> Identity:
    return Identity(about.st_ino, about.st_mtime_ns, about.st_size)
