"""Lines on their way out, kept in a nameless file: memory stays flat while nobody takes them.

A record is its time (milliseconds), its length, and its bytes. When all were taken the file is cut
back to nothing; what a process that is killed leaves unsent goes with it.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

_HEAD = struct.Struct("<QI")
BUFFER_BYTES = 64 * 1024
CUT_BYTES = 8 * 1024 * 1024
READ_BYTES = 2 * 1024 * 1024


class Spool:
    """Written by any thread, read by one."""

    def __init__(self, directory: Path, *, bytes_max: int) -> None:
        path = directory / f".spool-{os.urandom(8).hex()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        path.unlink()
        self._lock = threading.Lock()
        self._held = bytearray()  # not yet in the file
        self._written = 0
        self._taken = 0
        self._bytes_max = bytes_max
        self.dropped = 0

    @property
    def waiting_bytes(self) -> int:
        with self._lock:
            return self._written - self._taken + len(self._held)

    def put(self, milliseconds: int, data: bytes) -> bool:
        """Add a record; False where the bound is reached (or the disk full) and it is lost."""
        with self._lock:
            waiting = self._written - self._taken + len(self._held)
            if waiting + len(data) + _HEAD.size > self._bytes_max:
                self.dropped += 1
                return False
            self._held += _HEAD.pack(milliseconds, len(data))
            self._held += data
            if len(self._held) >= BUFFER_BYTES:
                try:
                    self._write_out()
                except OSError:
                    if len(self._held) > self._bytes_max // 16:
                        self.dropped += 1
                        del self._held[len(self._held) - len(data) - _HEAD.size :]
                        return False
        return True

    def peek(
        self, bytes_max: int, records_max: int, *, span: int
    ) -> tuple[list[tuple[int, bytes]], int]:
        """The oldest records and the mark to `take` once they have arrived.

        At most so many bytes (with the 26 that CloudWatch adds to each) and records, and none
        that is more than `span` milliseconds later than the first.
        """
        with self._lock:
            self._write_out()
            start = self._taken
            data = os.pread(self._descriptor, READ_BYTES, start)
        records: list[tuple[int, bytes]] = []
        size = used = 0
        for milliseconds, record, end in _records(data):
            size += len(record) + 26
            full = size > bytes_max or len(records) == records_max
            if records and (full or milliseconds - records[0][0] > span):
                break
            records.append((milliseconds, record))
            used = end
        return records, start + used

    def take(self, mark: int) -> None:
        """Forget the records before the mark."""
        with self._lock:
            self._taken = mark
            if self._taken == self._written and self._written > CUT_BYTES:
                os.ftruncate(self._descriptor, 0)
                self._taken = self._written = 0

    def close(self) -> None:
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _write_out(self) -> None:
        while self._held:
            written = os.pwrite(self._descriptor, self._held, self._written)
            self._written += written
            del self._held[:written]


def _records(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    position = 0
    while position + _HEAD.size <= len(data):
        milliseconds, length = _HEAD.unpack_from(data, position)
        start = position + _HEAD.size
        if start + length > len(data):
            return
        position = start + length
        yield milliseconds, data[start:position], position
