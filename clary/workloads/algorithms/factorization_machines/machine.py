"""A factorization machine: its parameters, its scores, and one step of learning.

    score = bias + sum_i w_i x_i + sum_{i<j} <v_i, v_j> x_i x_j

The sum over pairs costs no more than the features that a row has (Rendle, 2010):

    sum_{i<j} <v_i, v_j> x_i x_j = 1/2 sum_f ((sum_i v_if x_i)^2 - sum_i v_if^2 x_i^2)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import expit

BETA_1, BETA_2 = 0.9, 0.999
EPSILON = 1e-8


@dataclass
class Machine:
    """The parameters: a bias, one weight and one vector of factors for each feature."""

    bias: np.ndarray  # one number
    linear: np.ndarray
    factors: np.ndarray

    def scores(self, rows: Any) -> np.ndarray:
        """The score of each row, before any logistic."""
        return _scores(rows, _squared(rows), self.bias, self.linear, self.factors)[0]

    def all(self) -> dict[str, np.ndarray]:
        return {"bias": self.bias, "linear": self.linear, "factors": self.factors}


def new(values: Mapping[str, Any], random: np.random.Generator) -> Machine:
    """A machine as the hyperparameters of initialization say."""
    width, factors = values["feature_dim"], values["num_factors"]
    return Machine(
        _initial("bias", (1,), values, random),
        _initial("linear", (width,), values, random),
        _initial("factors", (width, factors), values, random),
    )


def _initial(
    name: str, shape: tuple[int, ...], values: Mapping[str, Any], random: np.random.Generator
) -> np.ndarray:
    method = values[f"{name}_init_method"]
    if method == "constant":
        return np.full(shape, values.get(f"{name}_init_value", 0.0), dtype=np.float32)
    if method == "uniform":
        scale = values.get(f"{name}_init_scale", values[f"{name}_init_sigma"])
        return random.uniform(-scale, scale, size=shape).astype(np.float32)
    return random.normal(0, values[f"{name}_init_sigma"], size=shape).astype(np.float32)


def _squared(rows: Any) -> Any:
    return rows * rows if isinstance(rows, np.ndarray) else rows.multiply(rows).tocsr()


def _scores(
    rows: Any, squares: Any, bias: np.ndarray, linear: np.ndarray, factors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    sums = rows @ factors
    pairs = (sums * sums - squares @ (factors * factors)).sum(axis=1)
    return bias[0] + rows @ linear + np.float32(0.5) * pairs, sums


class Learner:
    """Adam, on the parameters that a mini-batch touches."""

    def __init__(self, machine: Machine, values: Mapping[str, Any]) -> None:
        self.machine, self.values = machine, values
        self.is_classifier = values["predictor_type"] == "binary_classifier"
        self.steps = 0
        self.epsilon = values.get("eps", EPSILON)
        self.moments = {
            name: (np.zeros_like(array), np.zeros_like(array))
            for name, array in machine.all().items()
        }

    def step(self, rows: Any, labels: np.ndarray) -> np.ndarray:
        """Learn from one mini-batch; return its scores of before."""
        machine = self.machine
        touched: Any = slice(None)
        if not isinstance(rows, np.ndarray):
            # Only the columns at hand: a model of a million features must not be walked each time.
            touched, places = np.unique(rows.indices, return_inverse=True)
            rows = csr_matrix(
                (rows.data, places.reshape(-1), rows.indptr), shape=(rows.shape[0], len(touched))
            )
        squares = _squared(rows)
        linear, factors = machine.linear[touched], machine.factors[touched]
        scores, sums = _scores(rows, squares, machine.bias, linear, factors)
        slope = (expit(scores) if self.is_classifier else scores) - labels
        if not self.is_classifier:
            slope = 2 * slope
        slope = (slope * self.values.get("rescale_grad", 1 / len(labels))).astype(np.float32)
        transposed = rows.T
        self.steps += 1
        self._update("bias", slice(None), slope.sum(keepdims=True))
        self._update("linear", touched, transposed @ slope)
        pull = transposed @ (slope[:, None] * sums) - factors * (squares.T @ slope)[:, None]
        self._update("factors", touched, pull)
        return scores

    def _update(self, name: str, touched: Any, gradient: np.ndarray) -> None:
        values, parameter = self.values, self.machine.all()[name]
        limit = values.get("clip_gradient")
        if limit is not None:
            gradient = np.clip(gradient, -limit, limit)
        own = parameter[touched]
        gradient = gradient + np.float32(values[f"{name}_wd"]) * own
        first, second = self.moments[name]
        first[touched] = BETA_1 * first[touched] + (1 - BETA_1) * gradient
        second[touched] = BETA_2 * second[touched] + (1 - BETA_2) * gradient * gradient
        rate = values[f"{name}_lr"] * np.sqrt(1 - BETA_2**self.steps) / (1 - BETA_1**self.steps)
        parameter[touched] = own - np.float32(rate) * first[touched] / (
            np.sqrt(second[touched]) + np.float32(self.epsilon)
        )
