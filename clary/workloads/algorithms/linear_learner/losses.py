"""The losses of linear models with one score a row: value, slope and curvature by the score.

Where a loss has a corner, `bend` rounds it off: a width far below the noise of any data. The
curvatures of those losses are of the parabola that touches the loss and lies above it, so that a
step to its lowest point never makes the loss larger.

Scores are (rows, models); targets are (rows, 1): numbers, or 0 and 1 for a classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

BEND = np.float32(1e-3)
EXPONENT_MAX = np.float32(80)
CURVATURE_MIN = np.float32(1e-6)

Pair = Callable[[np.ndarray, np.ndarray], "tuple[np.ndarray, np.ndarray]"]
Single = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Loss:
    """One loss; `objective` is its name in the log."""

    objective: str
    value_and_slope: Pair
    curvature: Single
    is_quadratic: bool = False


def loss_of(name: str, values: Mapping[str, Any]) -> Loss:
    """The loss that the hyperparameters ask for."""
    return _MAKERS[name](values)


# -- smooth ---------------------------------------------------------------------------------------


def _logistic(values: Mapping[str, Any]) -> Loss:
    def value_and_slope(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        signs = 2 * labels - 1
        wrong = np.exp(np.minimum(-signs * scores, EXPONENT_MAX))
        return np.log1p(wrong), -signs * (wrong / (1 + wrong))

    def curvature(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        chance = 1 / (1 + np.exp(np.clip(-scores, -EXPONENT_MAX, EXPONENT_MAX)))
        return np.maximum(chance * (1 - chance), CURVATURE_MIN)

    return Loss("binary_classification_cross_entropy_objective", value_and_slope, curvature)


def _squared(values: Mapping[str, Any]) -> Loss:
    def value_and_slope(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gap = scores - labels
        return gap * gap, 2 * gap

    return Loss(
        "mse_objective",
        value_and_slope,
        lambda scores, labels: np.full_like(scores, 2),
        is_quadratic=True,
    )


def _huber(values: Mapping[str, Any]) -> Loss:
    delta = np.float32(max(values["huber_delta"], BEND))

    def value_and_slope(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gap = scores - labels
        inner = np.clip(gap, -delta, delta)
        return inner * (gap - inner / 2), inner

    return Loss(
        "huber_loss_objective",
        value_and_slope,
        lambda scores, labels: delta / np.maximum(np.abs(scores - labels), delta),
    )


def _eps_squared(values: Mapping[str, Any]) -> Loss:
    width = np.float32(values["loss_insensitivity"])

    def value_and_slope(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gap = scores - labels
        outside = gap - np.clip(gap, -width, width)
        return outside * outside, 2 * outside

    return Loss(
        "eps_insensitive_squared_loss_objective",
        value_and_slope,
        lambda scores, labels: np.full_like(scores, 2),
    )


# -- with corners: sums of ramps max(u, 0) ---------------------------------------------------------


def _ramp(height: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """max(u, 0) with its corner rounded off: value, slope, and curvature of the parabola above."""
    width = np.maximum(np.abs(height), BEND)
    value = (height + height * height / (2 * width) + width / 2) / 2
    return value, (1 + height / width) / 2, 1 / (2 * width)


def _hinge(values: Mapping[str, Any]) -> Loss:
    margin = np.float32(values["margin"])

    def value_and_slope(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        signs = 2 * labels - 1
        value, slope, _ = _ramp(margin - signs * scores)
        return value, -signs * slope

    def curvature(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return _ramp(margin - (2 * labels - 1) * scores)[2]

    return Loss("hinge_loss_objective", value_and_slope, curvature)


def _quantile(values: Mapping[str, Any]) -> Loss:
    high = np.float32(values["quantile"])
    return _two_ramps("quantile_loss_objective", 1 - high, high, np.float32(0))


def _absolute(values: Mapping[str, Any]) -> Loss:
    return _two_ramps("absolute_loss_objective", np.float32(1), np.float32(1), np.float32(0))


def _eps_absolute(values: Mapping[str, Any]) -> Loss:
    width = np.float32(values["loss_insensitivity"])
    return _two_ramps(
        "eps_insensitive_absolute_loss_objective", np.float32(1), np.float32(1), width
    )


def _two_ramps(name: str, above: np.floating, below: np.floating, width: np.floating) -> Loss:
    """`above` for each unit of a score beyond `width` over the label, `below` for one under it."""

    def value_and_slope(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gap = scores - labels
        over, over_slope, _ = _ramp(gap - width)
        under, under_slope, _ = _ramp(-gap - width)
        return above * over + below * under, above * over_slope - below * under_slope

    def curvature(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        gap = scores - labels
        return above * _ramp(gap - width)[2] + below * _ramp(-gap - width)[2]

    return Loss(name, value_and_slope, curvature)


_MAKERS: Mapping[str, Callable[[Mapping[str, Any]], Loss]] = {
    "logistic": _logistic,
    "hinge_loss": _hinge,
    "squared_loss": _squared,
    "absolute_loss": _absolute,
    "eps_insensitive_squared_loss": _eps_squared,
    "eps_insensitive_absolute_loss": _eps_absolute,
    "quantile_loss": _quantile,
    "huber_loss": _huber,
}
