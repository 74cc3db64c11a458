"""A uniform sample of a stream of examples, without replacement, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from clary.workloads.algorithms.first_party.examples import Examples


class Reservoir:
    """Keeps `size` of all rows it is shown: those with the smallest of as many random keys."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seen = size, 0
        self._random = np.random.default_rng(seed)
        self._keys: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._kept = 0
        self._limit = np.inf  # no row with a larger key can be among the sample any more

    def show(self, part: Examples) -> None:
        keys = self._random.random(part.count)
        self.seen += part.count
        chosen = np.flatnonzero(keys < self._limit)
        if not chosen.size:
            return
        rows = part.features[chosen]
        self._rows.append(np.ascontiguousarray(rows) if not part.is_sparse else rows.toarray())
        self._keys.append(keys[chosen])
        self._labels.append(
            part.labels[chosen] if part.labels is not None else np.zeros(len(chosen), np.float32)
        )
        self._kept += len(chosen)
        if self._kept > 2 * self.size:
            self._prune()

    def sample(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows, labels), in the order in which they came."""
        if not self._rows:
            return np.empty((0, 0), dtype=np.float32), np.empty(0, dtype=np.float32)
        self._prune()
        return self._rows[0], self._labels[0]

    def _prune(self) -> None:
        keys = np.concatenate(self._keys)
        chosen = np.arange(len(keys))
        if len(keys) > self.size:
            chosen = np.sort(np.argpartition(keys, self.size - 1)[: self.size])
            self._limit = float(keys[chosen].max())
        if len(self._keys) > 1 or len(chosen) < len(keys):
            self._rows = [np.concatenate(self._rows)[chosen]]
            self._labels = [np.concatenate(self._labels)[chosen]]
            self._keys = [keys[chosen]]
        self._kept = len(chosen)


def sampled(parts: Iterable[Examples], size: int, seed: int) -> Reservoir:
    """The reservoir after the whole stream."""
    reservoir = Reservoir(size, seed)
    for part in parts:
        reservoir.show(part)
    return reservoir
