"""Float32 matrices that grow row by row and never hold their rows twice.

`GrowingMatrix` is one private mapping: what was reserved and not written costs nothing, and to
grow moves pages instead of copying them. `SpilledMatrix` is a file without a name: for a library
that makes its own form of the data, which then need not be in memory beside it.
"""

from __future__ import annotations

import mmap
import tempfile
from typing import Any

import numpy as np

from clary.workloads.algorithms.pieces import PIECE_BYTES

_FLOAT_BYTES = 4
# The first piece tells how many rows so many bytes are; the rest may have slightly longer ones.
_ESTIMATE_MARGIN = 1.04
_GROWTH = 1.5


class GrowingMatrix:
    """Rows of one width. `whole` ends the growing: the matrix then belongs to the caller."""

    def __init__(self, width: int, rows_expected: int) -> None:
        self.width, self.count = width, 0
        size = max(rows_expected, 1) * max(width, 1) * _FLOAT_BYTES
        self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self._memory.madvise(mmap.MADV_HUGEPAGE)

    @classmethod
    def like(cls, first: np.ndarray, bytes_expected: int) -> GrowingMatrix:
        """An empty one for rows such as those of the first piece of so many bytes."""
        rows = len(first) * bytes_expected / PIECE_BYTES * _ESTIMATE_MARGIN
        return cls(first.shape[1], int(rows))

    def extend(self, rows: np.ndarray) -> None:
        """Add rows, which are as wide as the matrix."""
        end = self.count + len(rows)
        needed = end * self.width * _FLOAT_BYTES
        if needed > len(self._memory):
            self._memory.resize(int(needed * _GROWTH))
        if needed:
            # The mapping cannot grow while a view of it is alive, so none is kept.
            _view(self._memory, end, self.width)[self.count :] = rows
        self.count = end

    def whole(self) -> np.ndarray:
        return _view(self._memory, self.count, self.width)


class SpilledMatrix:
    """The same on disk; `forget` takes what was read of it out of memory again."""

    def __init__(self, width: int) -> None:
        self.width, self.count = width, 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed once it is mapped

    def extend(self, rows: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(rows, dtype=np.float32))
        self.count += len(rows)

    def whole(self) -> np.ndarray:
        self._file.flush()
        if not self.count:
            return np.empty((0, self.width), dtype=np.float32)
        memory = _FileMapping(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._file.close()
        return _view(memory, self.count, self.width)


class _FileMapping(mmap.mmap):
    """Tells pages that the file still has from those that would be lost."""


def forget(matrix: np.ndarray) -> None:
    """Let go of the pages of a spilled matrix, which come back when they are read again."""
    owner = _owner(matrix)
    if isinstance(owner, _FileMapping):
        owner.madvise(mmap.MADV_DONTNEED)


def is_spilled(matrix: np.ndarray) -> bool:
    return isinstance(_owner(matrix), _FileMapping)


def _owner(matrix: np.ndarray) -> Any:
    owner: Any = matrix
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return owner.obj if isinstance(owner, memoryview) else owner


def _view(memory: mmap.mmap, rows: int, width: int) -> np.ndarray:
    if not rows or not width:
        return np.empty((rows, width), dtype=np.float32)
    return np.frombuffer(memory, np.float32, rows * width).reshape(rows, width)
