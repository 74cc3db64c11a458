"""Gzip both ways: reading that survives many members, writing that uses every core.

One deflate stream is cut into blocks that are compressed apart, each knowing the 32 KiB before it,
and flushed to a byte's edge: joined, they are one ordinary gzip member, and always the same bytes.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections import deque
from typing import Protocol

BLOCK_BYTES = 1024 * 1024
WINDOW_BYTES = 32 * 1024
SAMPLE_BYTES = 16 * 1024
# Trained weights shrink by 8% at 30 MiB/s a core: not worth the wait beside a local disk.
INCOMPRESSIBLE = 0.9
THREADS_MAX = 4
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time, no system
_LAST_BLOCK = b"\x03\x00"


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


class GunzipSource:
    """The decompressed bytes of one or more gzip members; raises EOFError when cut short."""

    plain = True

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._inflater = zlib.decompressobj(31)
        self._compressed = b""
        self._between = False  # a member has ended, and no byte of another was seen
        self._begun = False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, none only at the end."""
        while True:
            if not self._compressed:
                self._compressed = self._source.read(64 * 1024)
                if not self._compressed:
                    if self._between or not self._begun:
                        return b""
                    raise EOFError("the compressed data is cut short")
            if self._between:
                # Some writers pad the last member with zeros.
                self._compressed = self._compressed.lstrip(b"\0")
                if not self._compressed:
                    continue
                self._inflater = zlib.decompressobj(31)
                self._between = False
            self._begun = True
            data = self._inflater.decompress(self._compressed, size)
            self._compressed = self._inflater.unconsumed_tail
            if self._inflater.eof:
                self._compressed = self._inflater.unused_data
                self._between = True
            elif not data and not self._compressed:
                # All input is taken and nothing came out: what zlib holds comes with more input.
                continue
            if data:
                return data

    def drain(self) -> None:
        while self.read(256 * 1024):
            continue


class _Block:
    def __init__(self, data: bytes, window: bytes) -> None:
        self.data = data
        self.window = window
        self.done = threading.Event()
        self.compressed = b""


class GzipSink:
    """A file-like sink that writes one gzip member; small contents never start a thread."""

    def __init__(self, sink: Writable, level: int, *, threads: int | None = None) -> None:
        self._sink = sink
        self._level = level
        self._threads = threads or min(THREADS_MAX, os.cpu_count() or 1)
        self._held = bytearray()
        self._window = b""
        self._crc = 0
        self._size = 0
        self._order: deque[_Block] = deque()
        self._todo: deque[_Block | None] = deque()
        self._available = threading.Semaphore(0)
        self._workers: list[threading.Thread] = []
        sink.write(_HEADER)

    def write(self, data: bytes) -> int:
        self._held += data
        self._size += len(data)
        while len(self._held) >= BLOCK_BYTES:
            self._submit(bytes(self._held[:BLOCK_BYTES]))
            del self._held[:BLOCK_BYTES]
        return len(data)

    def tell(self) -> int:
        return self._size

    def close(self) -> None:
        """Write what is left; the sink itself stays open."""
        try:
            if self._held:
                data = bytes(self._held)
                if self._workers:
                    self._submit(data)
                else:
                    self._crc = zlib.crc32(data, self._crc)
                    self._sink.write(_compressed(data, self._window, self._level))
            while self._order:
                self._write_next()
        finally:
            self._stop()
        tail = self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        self._sink.write(_LAST_BLOCK + tail)

    def _submit(self, data: bytes) -> None:
        self._crc = zlib.crc32(data, self._crc)
        block = _Block(data, self._window)
        self._window = data[-WINDOW_BYTES:]
        if len(self._workers) < self._threads:
            # Daemons, so that a sink given up half-way cannot keep the process alive.
            worker = threading.Thread(target=self._work, name="gzip", daemon=True)
            self._workers.append(worker)
            worker.start()
        self._order.append(block)
        self._todo.append(block)
        self._available.release()
        if len(self._order) > 2 * self._threads:
            self._write_next()

    def _write_next(self) -> None:
        block = self._order.popleft()
        block.done.wait()
        self._sink.write(block.compressed)

    def _work(self) -> None:
        while True:
            self._available.acquire()
            block = self._todo.popleft()
            if block is None:
                return
            block.compressed = _compressed(block.data, block.window, self._level)
            block.done.set()

    def abandon(self) -> None:
        """Stop the threads without writing the rest."""
        self._order.clear()
        self._stop()

    def _stop(self) -> None:
        for _ in self._workers:
            self._todo.append(None)
            self._available.release()
        for worker in self._workers:
            worker.join()
        self._workers.clear()


def _compressed(data: bytes, window: bytes, level: int) -> bytes:
    sample = data[:SAMPLE_BYTES]
    if len(zlib.compress(sample, 1)) > INCOMPRESSIBLE * len(sample):
        level = 0  # stored, at the speed of a copy
    if window:
        deflater = zlib.compressobj(level, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, window)
    else:
        deflater = zlib.compressobj(level, zlib.DEFLATED, -15, 9)
    return deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)
