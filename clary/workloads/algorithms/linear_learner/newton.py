"""Newton's method for many models at once: dense data of some hundred features, one score a row.

    sample ──▶ models, by full Newton steps (cheap)
    sample ──▶ one Hessian for each model ──┐
    all data ──▶ loss and slope (one pass) ─┴──▶ step, until no model gains any more

A Hessian of a sample points nearly where that of all the data would: each pass takes most of the
remaining error away, and there is not much left of it after the sample. A pass is two matrix
products for all models together, so thirty-two models cost little more than one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from clary.workloads.algorithms.first_party.hosts import Group
from clary.workloads.algorithms.linear_learner.data import Rows, scores
from clary.workloads.algorithms.linear_learner.losses import Loss

FEATURES_MAX = 256
FIRST_ROWS = 8192
HESSIAN_ROWS = 32768
FIRST_PASSES_MAX = 40
# The sums of losses are exact to some 1e-7; a step that gains less than this changes nothing.
GAIN_MIN = 1e-6
GAIN_MIN_OF_FEW = 1e-8  # few rows: passes cost nothing
SWEEPS = 40
STILL = 1e-8
RIDGE = 1e-9
HALVINGS_MAX = 8


@dataclass(frozen=True)
class Penalties:
    """What each model pays: wd/2 |w|^2 + l1 |w|, and `bias_wd` for its bias."""

    l2: np.ndarray
    l1: np.ndarray
    bias_l2: np.ndarray
    has_bias: bool

    def value(self, weights: np.ndarray) -> np.ndarray:
        own = weights[:-1]
        return (
            self.l2 / 2 * (own**2).sum(axis=0)
            + self.l1 * np.abs(own).sum(axis=0)
            + self.bias_l2 / 2 * weights[-1] ** 2
        )

    def l2_of_each(self, width: int) -> np.ndarray:
        """(features + bias, models)."""
        return np.vstack([np.repeat(self.l2[None], width, axis=0), self.bias_l2[None]])


@dataclass
class Problem:
    """Rows of all hosts, a loss, and the penalties of the models."""

    rows: Rows
    loss: Loss
    penalties: Penalties
    group: Group
    threads: int
    total_weight: float

    def evaluate(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean loss of each model without its penalties, and its slope, over all hosts' rows."""
        with ThreadPoolExecutor(self.threads) as pool:
            results = pool.map(lambda part: _slope(part, self.loss, weights), self.rows.parts())
            total = np.zeros((weights.shape[0] + 1, weights.shape[1]))
            for result in results:
                total += result
        total = self.group.sum(total) / self.total_weight
        slope = total[1:]
        if not self.penalties.has_bias:
            slope[-1] = 0.0
        return total[0], slope


def _slope(part: Rows, loss: Loss, weights: np.ndarray) -> np.ndarray:
    """Sums over a piece: the losses in the first row, then the slopes, that of the bias last."""
    found = scores(part.features, weights[:-1], weights[-1])
    value, slope = loss.value_and_slope(found, part.targets[:, None])
    slope *= part.weights[:, None]
    return np.vstack(
        [part.weights @ value, part.features.T @ slope, slope.sum(axis=0, dtype=np.float64)]
    )


def solve(
    problem: Problem, *, passes_max: int, seen: Callable[[int, np.ndarray], None]
) -> np.ndarray:
    """(features + bias, models); `seen` gets the losses of each pass."""
    # The pieces are the parallelism: a product of one piece is too small to be divided.
    with threadpool_limits(1):
        return _solve(problem, passes_max, seen)


def _solve(
    problem: Problem, passes_max: int, seen: Callable[[int, np.ndarray], None]
) -> np.ndarray:
    models = len(problem.penalties.l2)
    weights = np.zeros((problem.rows.width + 1, models))
    alone = problem.group.size == 1
    if alone and problem.rows.count > 4 * FIRST_ROWS and not problem.loss.is_quadratic:
        small = problem.rows.sample(FIRST_ROWS, 0)
        first = Problem(
            small,
            problem.loss,
            problem.penalties,
            problem.group,
            problem.threads,
            float(small.weights.sum()),
        )
        weights = _descend(first, weights, FIRST_PASSES_MAX, lambda at, losses: None, FIRST_ROWS)
    # Few rows need many passes, and hardly any time for them.
    few = problem.rows.count <= HESSIAN_ROWS
    most = max(passes_max, FIRST_PASSES_MAX) if few else passes_max
    size = problem.rows.count if problem.loss.is_quadratic else HESSIAN_ROWS
    return _descend(problem, weights, most, seen, size)


def _descend(
    problem: Problem,
    weights: np.ndarray,
    passes_max: int,
    seen: Callable[[int, np.ndarray], None],
    hessian_rows: int,
) -> np.ndarray:
    penalties = problem.penalties
    hessians: np.ndarray | None = None
    best, best_value = weights, np.full(weights.shape[1], np.inf)
    best_slope = np.zeros_like(weights)
    reach = np.ones(weights.shape[1])
    trial = weights
    least = GAIN_MIN_OF_FEW if problem.rows.count <= HESSIAN_ROWS else GAIN_MIN
    for at in range(passes_max + 1):
        loss, slope = problem.evaluate(trial)
        value = loss + penalties.value(trial)
        better = value <= best_value
        with np.errstate(invalid="ignore"):
            gain = (best_value - value) / np.maximum(np.abs(best_value), 1e-12)
        best = np.where(better, trial, best)
        best_slope = np.where(better, slope, best_slope)
        best_value = np.where(better, value, best_value)
        # A step that led up is taken again from where it began, half as long.
        reach = np.where(better, 1.0, reach / 2)
        seen(at, best_value)
        settled = (np.abs(gain) < least) | (reach < 0.5**HALVINGS_MAX)
        if (at and settled.all()) or at == passes_max:
            break
        if hessians is None or (problem.rows.count <= HESSIAN_ROWS and not _is_fixed(problem)):
            hessians = _hessians(problem, best, hessian_rows)
        step = _minimum(hessians, best_slope, best, penalties) - best
        trial = best + reach * step
    return best


def _is_fixed(problem: Problem) -> bool:
    return problem.loss.is_quadratic


def _hessians(problem: Problem, weights: np.ndarray, rows_max: int) -> np.ndarray:
    """(models, features + bias, features + bias): mean curvature over a sample of all hosts."""
    size = max(1, rows_max // problem.group.size) if not _is_fixed(problem) else problem.rows.count
    sample = problem.rows.sample(size, 1)
    width, models = weights.shape
    # One matrix does for all models where the curvature does not depend on the scores.
    kinds = 1 if _is_fixed(problem) else models
    with ThreadPoolExecutor(problem.threads) as pool:
        total = np.zeros((kinds, width, width))
        results = pool.map(
            lambda part: _curvature(part, problem.loss, weights[:, :kinds]), sample.parts()
        )
        for result in results:
            total += result
    weight = problem.group.sum_of(float(sample.weights.sum()))
    return np.repeat(problem.group.sum(total) / weight, models // kinds, axis=0)


def _curvature(part: Rows, loss: Loss, weights: np.ndarray) -> np.ndarray:
    found = scores(part.features, weights[:-1], weights[-1])
    curvature = loss.curvature(found, part.targets[:, None]) * part.weights[:, None]
    rows = np.column_stack([part.features, np.ones(part.count, dtype=np.float32)])
    return np.stack([(rows * one[:, None]).T @ rows for one in curvature.T]).astype(np.float64)


def _minimum(
    hessians: np.ndarray, slope: np.ndarray, weights: np.ndarray, penalties: Penalties
) -> np.ndarray:
    """Where the parabolas through the models, with their penalties, are lowest."""
    width = weights.shape[0]
    l2 = penalties.l2_of_each(width - 1)
    matrices = hessians.copy()
    steps = np.arange(width)
    matrices[:, steps, steps] += l2.T + RIDGE
    if not penalties.has_bias:
        matrices[:, -1, :] = matrices[:, :, -1] = 0.0
        matrices[:, -1, -1] = 1.0
    right = np.einsum("mij,jm->im", hessians, weights) - slope
    if not penalties.has_bias:
        right[-1] = 0.0
    found = np.linalg.solve(matrices, right.T[:, :, None])[:, :, 0].T
    sparse = penalties.l1 > 0
    if sparse.any():
        found[:, sparse] = _with_l1(
            matrices[sparse], right[:, sparse], weights[:, sparse], penalties.l1[sparse]
        )
    return found


def _with_l1(
    matrices: np.ndarray, right: np.ndarray, start: np.ndarray, l1: np.ndarray
) -> np.ndarray:
    """Coordinate descent on 1/2 w'Aw - b'w + l1 |w|, for all models side by side."""
    weights = start.copy()
    product = np.einsum("mij,jm->im", matrices, weights)
    last = weights.shape[0] - 1
    columns = np.ascontiguousarray(matrices.transpose(2, 1, 0))
    for _ in range(SWEEPS):
        before = weights.copy()
        for at in range(weights.shape[0]):
            own = columns[at, at]
            pull = right[at] - product[at] + own * weights[at]
            limit = l1 if at != last else 0.0
            # What is left of the pull once the price of not being zero is paid.
            new = (pull - np.minimum(np.maximum(pull, -limit), limit)) / own
            product += columns[at] * (new - weights[at])
            weights[at] = new
        if np.abs(weights - before).max() < STILL:
            break
    return weights
