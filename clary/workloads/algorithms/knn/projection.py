"""Random projections to fewer dimensions, made anew from a seed wherever they are needed."""

from __future__ import annotations

import numpy as np
from scipy.linalg import hadamard

# The Hadamard matrix of the next power of two has to be written out.
FJLT_FEATURES_MAX = 1 << 14


def matrix(kind: str, seed: int, width: int, target: int) -> np.ndarray:
    """(width, target): `sign` is ±1 at random, `fjlt` a Hadamard transform of flipped signs."""
    random = np.random.default_rng(seed)
    if kind == "sign":
        signs = random.integers(0, 2, size=(width, target), dtype=np.int8)
        return ((2 * signs.astype(np.float32) - 1) / np.sqrt(target)).astype(np.float32)
    size = 1 << max(width - 1, 1).bit_length()
    if size > FJLT_FEATURES_MAX:
        raise ValueError(f"fjlt takes at most {FJLT_FEATURES_MAX} features, not {width}")
    flips = 2 * random.integers(0, 2, size=width) - 1
    chosen = random.choice(size, target, replace=False)
    full = hadamard(size, dtype=np.int8)[:width, chosen].astype(np.float32)
    return (full * flips[:, None] / np.sqrt(target)).astype(np.float32)
