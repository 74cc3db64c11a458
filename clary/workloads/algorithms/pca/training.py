"""Training PCA: the covariance in one pass over the data, or a randomized basis in a few.

`regular` never holds the data: each piece adds to the sums of the columns and of their products.
`randomized` holds it, and finds the leading subspace by block iterations, which cost less where
there are many features.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.linalg import eigh

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.first_party.examples import Examples, Wanted
from clary.workloads.algorithms.first_party.session import Session, no_examples, session
from clary.workloads.algorithms.job import Job

BLOCK_ITERATIONS = 7
ROWS_AT_ONCE = 8192
SEED = 0


def train(job: Job, algorithm: Algorithm) -> None:
    with session(job, algorithm) as run:
        wanted = Wanted(labels=False, feature_dim=job.hyperparameters["feature_dim"])
        started = time.monotonic()
        find = _randomized if job.hyperparameters["algorithm_mode"] == "randomized" else _regular
        total, mean, values, vectors = find(run, wanted)
        # SageMaker orders the components from the smallest to the largest.
        vectors = _with_fixed_signs(vectors[:, ::-1])
        singular = np.sqrt(np.maximum(values[::-1], 0.0))
        run.log.progress(1, 1)
        run.finished(total, time.monotonic() - started)
        if "test" in job.channels:
            _test(run, wanted, mean, vectors)
        run.save(
            {
                "mean": mean.astype(np.float32),
                "s": singular.astype(np.float32),
                "v": vectors.astype(np.float32),
            },
            subtract_mean=bool(job.hyperparameters["subtract_mean"]),
        )


def _regular(run: Session, wanted: Wanted) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """The number of rows, the mean, the leading eigenvalues and vectors, the largest first."""
    width = run.values["feature_dim"]
    sums = np.zeros(width + 1, dtype=np.float64)
    products = np.zeros((width, width), dtype=np.float64)
    origin: np.ndarray | None = None
    for part in run.blocks("train", wanted):
        if origin is None:
            # Rounded once: what is taken off float32 rows has to be what is put back.
            origin = _column_means(part.features).astype(np.float32).astype(np.float64)
        _add(part, origin, sums, products)
    sums, products = _around_zero(sums, products, origin)
    sums, products = run.group.sum(sums), run.group.sum(products)
    total = int(sums[width])
    if not total:
        raise no_examples()
    mean = sums[:width] / total
    if run.values["subtract_mean"]:
        products -= np.outer(mean, mean) * total
    else:
        mean = np.zeros_like(mean)
    count = run.values["num_components"]
    values, vectors = eigh(products, subset_by_index=(width - count, width - 1))
    return total, mean, values[::-1], vectors[:, ::-1]


def _column_means(features: Any) -> np.ndarray:
    return np.asarray(features.mean(axis=0), dtype=np.float64).ravel()


def _add(part: Examples, origin: np.ndarray, sums: np.ndarray, products: np.ndarray) -> None:
    """Add a piece to the sums; rows are taken relative to `origin`, so that float32 is enough."""
    if part.is_sparse:
        wide = part.features.astype(np.float64)
        products += (wide.T @ wide).toarray()
        column_sums = np.asarray(wide.sum(axis=0)).ravel()
        # The sparse rows stay as they are; their sums are shifted instead.
        products += (
            np.outer(origin, origin) * part.count
            - np.outer(column_sums, origin)
            - np.outer(origin, column_sums)
        )
        sums[:-1] += column_sums - origin * part.count
        sums[-1] += part.count
        return
    shift = origin.astype(np.float32)
    for start in range(0, part.count, ROWS_AT_ONCE):
        rows = part.features[start : start + ROWS_AT_ONCE] - shift
        products += rows.T @ rows
        sums[:-1] += rows.sum(axis=0, dtype=np.float64)
    sums[-1] += part.count


def _around_zero(
    sums: np.ndarray, products: np.ndarray, origin: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The sums as if the origin had been zero, which is what hosts can add to each other's."""
    if origin is None:
        return sums, products
    shift, total = origin, sums[-1]
    column_sums = sums[:-1]
    moved = products + (
        np.outer(column_sums, shift) + np.outer(shift, column_sums) + np.outer(shift, shift) * total
    )
    return np.append(column_sums + shift * total, total), moved


def _randomized(run: Session, wanted: Wanted) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Block iterations from a random start; `extra_components` more than wanted, for precision."""
    examples, total = run.read_training(wanted)
    features, width = examples.features, examples.width
    count = run.values["num_components"]
    extra = run.values["extra_components"]
    extra = max(10, count) if extra < 0 else extra
    mean = run.group.sum(np.asarray(features.sum(axis=0), dtype=np.float64).ravel()) / total
    if not run.values["subtract_mean"]:
        mean = np.zeros_like(mean)
    basis = np.random.default_rng(SEED).normal(size=(width, min(width, count + extra)))
    basis = np.linalg.qr(basis)[0]
    image = basis
    for _ in range(BLOCK_ITERATIONS):
        image = run.group.sum(_covariance_times(features, mean, basis))
        basis = np.linalg.qr(image)[0]
    image = run.group.sum(_covariance_times(features, mean, basis))
    small = basis.T @ image
    values, vectors = np.linalg.eigh((small + small.T) / 2)
    order = np.argsort(values)[::-1][:count]
    return total, mean, values[order], basis @ vectors[:, order]


def _covariance_times(features: Any, mean: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """The scatter matrix of the rows times a block of vectors, without forming the matrix."""
    image = np.zeros(basis.shape, dtype=np.float64)
    narrow = basis.astype(np.float32)
    shift = mean.astype(np.float32)
    for start in range(0, features.shape[0], ROWS_AT_ONCE):
        rows = features[start : start + ROWS_AT_ONCE]
        if isinstance(rows, np.ndarray):
            rows = rows - shift
            image += rows.T @ (rows @ narrow)
            continue
        seen = rows @ basis - mean @ basis
        image += rows.T @ seen - np.outer(mean, seen.sum(axis=0))
    return image


def _with_fixed_signs(vectors: np.ndarray) -> np.ndarray:
    """Each component with its largest entry positive: its sign is arbitrary otherwise."""
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return vectors * np.where(signs == 0, 1.0, signs)


def _test(run: Session, wanted: Wanted, mean: np.ndarray, vectors: np.ndarray) -> None:
    """How far the test examples are from their projections."""
    lost, count = 0.0, 0
    for part in run.blocks("test", wanted):
        rows = part.features if not part.is_sparse else part.features.toarray()
        rows = rows.astype(np.float64) - mean
        lost += float((rows**2).sum() - ((rows @ vectors) ** 2).sum())
        count += part.count
    lost, count = run.group.sum_of(lost), int(run.group.sum_of(count))
    if count:
        rmse = float(np.sqrt(max(lost, 0.0) / (count * len(mean))))
        run.log.quality("test", "rmse", rmse, maximize=False)
        run.log.score("rmse", rmse)
