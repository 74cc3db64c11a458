"""L-BFGS for what Newton's method cannot hold: sparse or wide data, and several classes.

Models are fitted one after the other, each from where the last one ended. All hosts run the same
iterations: only the sums that decide each step go through the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from clary.workloads.algorithms.first_party.hosts import Group
from clary.workloads.algorithms.linear_learner.data import Rows, scores
from clary.workloads.algorithms.linear_learner.losses import Loss

ITERATIONS_PER_EPOCH = 20
MEMORY = 20
TOLERANCE = 1e-9


@dataclass
class Problem:
    """Rows of all hosts; `classes` is 1 for a loss of one score."""

    rows: Rows
    loss: Loss | None  # None: softmax
    classes: int
    group: Group
    total_weight: float
    has_bias: bool

    def evaluate(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean loss and slope of (features + bias, classes), over the rows of all hosts."""
        total = np.zeros(weights.size + 1)
        for part in self.rows.parts():
            found = scores(part.features, weights[:-1], weights[-1])
            if self.loss is None:
                value, slope = softmax(found, part.targets)
            else:
                value, slope = self.loss.value_and_slope(found, part.targets[:, None])
                value = value[:, 0]
            slope = slope * part.weights[:, None]
            total[0] += float(part.weights @ value)
            total[1:] += np.vstack(
                [part.features.T @ slope, slope.sum(axis=0, dtype=np.float64)]
            ).ravel()
        total = self.group.sum(total) / self.total_weight
        slope = total[1:].reshape(weights.shape)
        if not self.has_bias:
            slope[-1] = 0.0
        return float(total[0]), slope


def softmax(found: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = found - found.max(axis=1, keepdims=True)
    chances = np.exp(found)
    sums = chances.sum(axis=1, keepdims=True)
    rows = np.arange(len(found))
    classes = targets.astype(np.int64)
    value = np.log(sums[:, 0]) - found[rows, classes]
    chances /= sums
    chances[rows, classes] -= 1
    return value, chances


def solve(
    problem: Problem,
    start: np.ndarray,
    *,
    l2: float,
    l1: float,
    bias_l2: float,
    epochs: int,
    seen: Callable[[float], None],
) -> np.ndarray:
    """The weights of one model, (features + bias, classes)."""
    shape, size = start.shape, start.size

    def smooth(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = problem.evaluate(weights)
        value += l2 / 2 * float((weights[:-1] ** 2).sum())
        value += bias_l2 / 2 * float((weights[-1] ** 2).sum())
        slope = slope + np.vstack([l2 * weights[:-1], bias_l2 * weights[-1:]])
        seen(value)
        return value, slope

    options = {
        "maxiter": ITERATIONS_PER_EPOCH * epochs,
        "maxcor": MEMORY,
        "ftol": TOLERANCE,
        "gtol": 1e-7,
    }
    if not l1:
        found = minimize(
            lambda flat: _flat(smooth(flat.reshape(shape))),
            start.ravel(),
            jac=True,
            method="L-BFGS-B",
            options=options,
        )
        return found.x.reshape(shape)
    # |w| has a corner at zero; a difference of two numbers that are not negative has none.
    price = np.full(shape, l1)
    price[-1] = 0.0
    prices = np.concatenate([price.ravel(), price.ravel()])

    def split(both: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = smooth((both[:size] - both[size:]).reshape(shape))
        flat = slope.ravel()
        return value + float(prices @ both), np.concatenate([flat, -flat]) + prices

    flat = start.ravel()
    found = minimize(
        split,
        np.concatenate([np.maximum(flat, 0), np.maximum(-flat, 0)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * (2 * size),
        options=options,
    )
    return (found.x[:size] - found.x[size:]).reshape(shape)


def _flat(result: tuple[float, np.ndarray]) -> tuple[float, np.ndarray]:
    return result[0], result[1].ravel()
