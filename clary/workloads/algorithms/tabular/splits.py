"""Validation data for jobs that bring none: a fifth of the rows, at random but always the same."""

from __future__ import annotations

import numpy as np

ONE_OF = 5
SEED = 200


class Fifth:
    """Takes one at random of each five rows, as they come."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(SEED)
        self._pending = np.empty(0, dtype=bool)

    def mask(self, rows: int) -> np.ndarray:
        """Which of the next rows are held out."""
        missing = rows - len(self._pending)
        if missing > 0:
            groups = -(-missing // ONE_OF)
            chosen = self._random.integers(ONE_OF, size=groups)
            fresh = np.arange(ONE_OF) == chosen[:, None]
            self._pending = np.concatenate([self._pending, fresh.reshape(-1)])
        found, self._pending = self._pending[:rows], self._pending[rows:]
        return found
