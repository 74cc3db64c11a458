"""Distances between examples and centres, and Lloyd's iterations over the data of all hosts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from clary.workloads.algorithms.first_party.hosts import Group

CHUNK_ROWS = 8192


def nearest(features: Any, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The closest centre of each row, and the square of its distance."""
    wide = centers.astype(np.float64)
    labels = closest(features, centers)
    if isinstance(features, np.ndarray):
        # The difference itself: squares of long vectors would swallow a short distance.
        gaps = features.astype(np.float64) - wide[labels]
        return labels, np.einsum("ij,ij->i", gaps, gaps)
    squares = np.asarray(features.multiply(features).sum(axis=1), dtype=np.float64).ravel()
    inner = np.asarray(features.multiply(wide[labels]).sum(axis=1)).ravel()
    return labels, np.maximum(squares - 2 * inner + (wide**2).sum(axis=1)[labels], 0.0)


def closest(features: Any, centers: np.ndarray) -> np.ndarray:
    """The closest centre of each row."""
    half = (centers.astype(np.float64) ** 2).sum(axis=1) / 2
    # The part of the squared distance that differs between centres, halved and turned round.
    scores = np.asarray(features @ centers.T) - half.astype(np.float32)
    return scores.argmax(axis=1)


def sum_of_squares(features: Any, centers: np.ndarray) -> float:
    """The sum of the squared distances of all rows to their closest centres."""
    return float(sum(nearest(part, centers)[1].sum() for part in _parts(features)))


def _parts(features: Any) -> Iterator[Any]:
    for start in range(0, features.shape[0], CHUNK_ROWS):
        yield features[start : start + CHUNK_ROWS]


def lloyd(
    group: Group,
    features: Any,
    centers: np.ndarray,
    *,
    iterations_max: int,
    tolerance: float,
    threads: int,
) -> np.ndarray:
    """Refine the centres until they move less than `tolerance` of the data's variance."""
    limit = tolerance * _variance(group, features)
    width = centers.shape[1]
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        for _ in range(iterations_max):
            totals = np.zeros((len(centers), width + 1), dtype=np.float64)
            for part in pool.map(partial(_sums, centers=centers), _parts(features)):
                totals += part
            totals = group.sum(totals)
            filled = totals[:, width] > 0
            moved = centers.astype(np.float64)
            moved[filled] = totals[filled, :width] / totals[filled, width:]
            shift = float(((moved - centers) ** 2).sum())
            centers = moved.astype(np.float32)
            if shift <= limit:
                break
    return centers


def _sums(rows: Any, centers: np.ndarray) -> np.ndarray:
    """The sum of the rows of each centre, and in the last column their number."""
    labels = closest(rows, centers)
    k, count = len(centers), len(labels)
    chosen = csr_matrix(
        (np.ones(count, dtype=np.float32), (labels, np.arange(count))), shape=(k, count)
    )
    product = chosen @ rows
    sums = product if isinstance(product, np.ndarray) else product.toarray()
    return np.column_stack([sums, np.bincount(labels, minlength=k)])


def _variance(group: Group, features: Any) -> float:
    """The mean of the columns' variances."""
    width = features.shape[1]
    sums = np.zeros((3, width), dtype=np.float64)
    for part in _parts(features):
        dense = isinstance(part, np.ndarray)
        squares = part**2 if dense else part.multiply(part)
        sums[0] += np.asarray(part.sum(axis=0), dtype=np.float64).ravel()
        sums[1] += np.asarray(squares.sum(axis=0), dtype=np.float64).ravel()
        sums[2] += part.shape[0]
    sums = group.sum(sums)
    count = max(sums[2, 0], 1.0)
    return float(np.mean(np.maximum(sums[1] / count - (sums[0] / count) ** 2, 0.0)))
