"""A Gaussian process with a Matérn 5/2 kernel and a length scale for each dimension, fitted by its posterior mode."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg, optimize

Array = Any  # numpy's own annotation of arrays differs between the versions that this runs on

ROOT_5 = math.sqrt(5.0)
JITTER = 1e-8
NOISE_MIN, NOISE_MAX = 1e-7, 0.3
LENGTH_MIN, LENGTH_MAX = 0.02, 30.0
AMPLITUDE_MIN, AMPLITUDE_MAX = 0.05, 20.0
# The hyperparameters are fitted to at most so many points; the posterior rests on more of them.
FIT_POINTS_MAX = 100
FIT_STEPS_MAX = 60


@dataclass(frozen=True)
class GaussianProcess:
    """The posterior given `points` (rows in the unit cube) and standardised values."""

    points: Array
    lengths: Array
    amplitude: float
    noise: float
    factor: Array  # lower Cholesky factor of the covariance of the observations
    weights: Array  # covariance^-1 values

    def predict(self, at: Array) -> tuple[Array, Array]:
        """Mean and variance at each row."""
        cross = self.amplitude * matern(scaled_distances(at, self.points, self.lengths))
        half = linalg.solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        variance = self.amplitude - np.sum(half * half, axis=0)
        return cross @ self.weights, np.maximum(variance, 1e-12)

    def predict_with_gradient(self, at: Array) -> tuple[float, float, Array, Array]:
        """Mean, variance and their gradients at one point."""
        difference = (at[None, :] - self.points) / self.lengths
        distance = np.sqrt(np.sum(difference * difference, axis=1))
        decay = np.exp(-ROOT_5 * distance)
        cross = self.amplitude * (1.0 + ROOT_5 * distance + 5.0 / 3.0 * distance**2) * decay
        slope = -self.amplitude * 5.0 / 3.0 * (1.0 + ROOT_5 * distance) * decay
        gradient = slope[:, None] * difference / self.lengths
        solved = linalg.cho_solve((self.factor, True), cross, check_finite=False)
        variance = max(self.amplitude - float(cross @ solved), 1e-12)
        return (
            float(cross @ self.weights),
            variance,
            gradient.T @ self.weights,
            -2.0 * (gradient.T @ solved),
        )

    def conditioned(self, points: Array, values: Array) -> GaussianProcess:
        """The same hyperparameters on other observations."""
        return _posterior(points, values, self.lengths, self.amplitude, self.noise)


def fit(points: Array, values: Array, random: np.random.Generator) -> GaussianProcess:
    """The process whose hyperparameters are most probable given the observations."""
    shown, told = points, values
    if len(points) > FIT_POINTS_MAX:
        best = np.argsort(values)[: FIT_POINTS_MAX // 2]
        others = np.setdiff1d(np.arange(len(points)), best)
        drawn = random.choice(others, FIT_POINTS_MAX - len(best), replace=False)
        chosen = np.concatenate([best, drawn])
        shown, told = points[chosen], values[chosen]
    dimensions = points.shape[1]
    squares = (shown[:, None, :] - shown[None, :, :]) ** 2
    bounds = [
        *[(math.log(LENGTH_MIN), math.log(LENGTH_MAX))] * dimensions,
        (math.log(AMPLITUDE_MIN), math.log(AMPLITUDE_MAX)),
        (math.log(NOISE_MIN), math.log(NOISE_MAX)),
    ]
    found = [
        optimize.minimize(
            _negative_log_posterior,
            np.array([*[math.log(length)] * dimensions, 0.0, math.log(noise)]),
            args=(squares, told),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": FIT_STEPS_MAX},
        )
        for length, noise in ((0.3 * math.sqrt(dimensions), 1e-4), (1.0, 1e-2))
    ]
    best_of = min(found, key=lambda one: one.fun).x
    return _posterior(
        points,
        values,
        np.exp(best_of[:dimensions]),
        math.exp(best_of[dimensions]),
        math.exp(best_of[dimensions + 1]),
    )


def scaled_distances(left: Array, right: Array, lengths: Array) -> Array:
    left, right = left / lengths, right / lengths
    squares = (
        np.sum(left * left, axis=1)[:, None]
        + np.sum(right * right, axis=1)[None, :]
        - 2.0 * left @ right.T
    )
    return np.sqrt(np.maximum(squares, 0.0))


def matern(distance: Array) -> Array:
    return (1.0 + ROOT_5 * distance + 5.0 / 3.0 * distance**2) * np.exp(-ROOT_5 * distance)


def _posterior(
    points: Array, values: Array, lengths: Array, amplitude: float, noise: float
) -> GaussianProcess:
    covariance = amplitude * matern(scaled_distances(points, points, lengths))
    covariance[np.diag_indices_from(covariance)] += noise + JITTER
    factor = linalg.cholesky(covariance, lower=True, check_finite=False)
    weights = linalg.cho_solve((factor, True), values, check_finite=False)
    return GaussianProcess(points, lengths, amplitude, noise, factor, weights)


def _negative_log_posterior(
    logarithms: Array, squares: Array, values: Array
) -> tuple[float, Array]:
    """Of the logarithms of lengths, amplitude and noise, with its gradient; a constant is left out."""
    dimensions = squares.shape[2]
    lengths = np.exp(logarithms[:dimensions])
    amplitude, noise = np.exp(logarithms[dimensions]), np.exp(logarithms[dimensions + 1])
    distance = np.sqrt(squares @ (1.0 / lengths**2))
    decay = np.exp(-ROOT_5 * distance)
    kernel = amplitude * (1.0 + ROOT_5 * distance + 5.0 / 3.0 * distance**2) * decay
    covariance = kernel.copy()
    covariance[np.diag_indices_from(covariance)] += noise + JITTER
    try:
        factor = linalg.cholesky(covariance, lower=True, check_finite=False)
    except linalg.LinAlgError:
        return 1e10, np.zeros_like(logarithms)
    inverse = linalg.cho_solve((factor, True), np.eye(len(values)), check_finite=False)
    weights = inverse @ values
    likelihood = 0.5 * values @ weights + np.sum(np.log(np.diag(factor)))
    # d(-log likelihood)/d theta = tr((inverse - weights weights') dK/d theta) / 2
    outer = inverse - np.outer(weights, weights)
    slope = amplitude * 5.0 / 3.0 * (1.0 + ROOT_5 * distance) * decay * outer
    gradient = np.empty_like(logarithms)
    gradient[:dimensions] = 0.5 * np.einsum("ij,ijk->k", slope, squares) / lengths**2
    gradient[dimensions] = 0.5 * np.sum(outer * kernel)
    gradient[dimensions + 1] = 0.5 * noise * np.trace(outer)
    prior, prior_gradient = _negative_log_prior(logarithms, dimensions)
    return float(likelihood + prior), gradient + prior_gradient


def _negative_log_prior(logarithms: Array, dimensions: int) -> tuple[float, Array]:
    """Log-normal beliefs: lengths that grow with the dimension, amplitude near 1, little noise."""
    centres = np.array(
        [*[math.log(0.2) + 0.5 * math.log(dimensions)] * dimensions, 0.0, math.log(1e-4)]
    )
    spreads = np.array([*[0.5] * dimensions, 1.0, 3.0])
    away = (logarithms - centres) / spreads
    return float(0.5 * away @ away), away / spreads
