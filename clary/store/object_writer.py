"""An object on its way into the store: a temporary file that is hashed while it is written."""

# Paths are strings here: a Path costs more than the system call it is for.
# ruff: noqa: PTH108

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterable
from typing import Protocol

from clary.store.full_disk import object_store_full

BLOCK_BYTES = 1 << 20


class Digest(Protocol):
    def update(self, data: bytes | memoryview, /) -> object: ...


class ObjectWriter:
    """Write, then hand over to `Objects.commit`; leaving the `with` block removes what was not committed.

    The temporary file is locked while it is written, so that a cleaner knows the ones whose writer has died."""

    def __init__(self, folder: str, digests: Iterable[Digest] = (), *, hashed: bool = True) -> None:
        self.path = f"{folder}/{secrets.token_hex(12)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self.descriptor = os.open(self.path, flags, 0o644)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._digests: list[Digest] = [*((self._md5,) if hashed else ()), *digests]

    def __enter__(self) -> ObjectWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def md5(self) -> bytes:
        return self._md5.digest()

    @property
    def etag(self) -> str:
        return self._md5.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        for digest in self._digests:
            digest.update(data)
        self._write_all(memoryview(data))

    def _write_all(self, data: memoryview) -> None:
        try:
            while data:
                written = os.write(self.descriptor, data)
                self.size += written
                data = data[written:]
        except OSError as problem:
            raise object_store_full(problem) or problem from problem

    def copy_from(self, source: int, start: int, length: int) -> None:
        """Append a range of another file, inside the kernel if nobody wants to hash it."""
        end = start + length
        in_kernel = not self._digests
        while start < end:
            want = min(end - start, 64 * BLOCK_BYTES if in_kernel else BLOCK_BYTES)
            if in_kernel:
                try:
                    copied = os.copy_file_range(source, self.descriptor, want, offset_src=start)
                except OSError as problem:
                    full = object_store_full(problem)
                    if full:
                        raise full from problem
                    in_kernel = False  # not between these two file systems
                    continue
                self.size += copied
            else:
                block = os.pread(source, want, start)
                copied = len(block)
                self.write(block)
            if copied == 0:
                raise OSError(errno.EIO, "the source became shorter while it was copied")
            start += copied

    def flush(self) -> None:
        """Have the bytes survive a power cut."""
        os.fsync(self.descriptor)

    def close(self) -> None:
        """Idempotent; removes the temporary file if it was not renamed."""
        if self.descriptor < 0:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        os.close(self.descriptor)
        self.descriptor = -1

    def placed(self) -> None:
        """The file now has its final name."""
        os.close(self.descriptor)
        self.descriptor = -1


def remove_stale(folder: str) -> int:
    """Remove the temporary files that no living writer holds; return their number."""
    removed = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False):
                continue
            try:
                descriptor = os.open(entry.path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)
                removed += 1
            except (BlockingIOError, FileNotFoundError):
                continue
            finally:
                os.close(descriptor)
    return removed
