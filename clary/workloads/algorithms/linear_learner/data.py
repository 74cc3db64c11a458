"""The examples as the solvers see them: scaled features, targets, and a weight for each row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, diags

from clary.workloads.algorithms.first_party.hosts import Group

ROWS_AT_ONCE = 16384


@dataclass(frozen=True)
class Scaler:
    """x -> (x - mean) / deviation, for the features and for the label."""

    mean: np.ndarray
    deviation: np.ndarray
    label_mean: float
    label_deviation: float

    def apply(self, features: Any) -> Any:
        """Scale in place where the features are dense; return them."""
        if not isinstance(features, np.ndarray):
            return csr_matrix(features @ diags(1 / self.deviation)).astype(np.float32)
        mean = self.mean.astype(np.float32)
        factor = (1 / self.deviation).astype(np.float32)
        for start in range(0, len(features), ROWS_AT_ONCE):
            rows = features[start : start + ROWS_AT_ONCE]
            rows -= mean
            rows *= factor
        return features

    def apply_to_labels(self, labels: np.ndarray) -> np.ndarray:
        return ((labels - self.label_mean) / self.label_deviation).astype(np.float32)

    def unscaled(self, weights: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The weights and the bias that give the same scores on features as they came."""
        own = weights / self.deviation[:, None]
        scale = self.label_deviation
        return own * scale, (bias - self.mean @ own) * scale + self.label_mean


def scaler(
    group: Group,
    features: Any,
    labels: np.ndarray,
    *,
    points: int,
    scales: bool,
    centers: bool,
    scales_labels: bool,
    centers_labels: bool,
) -> Scaler:
    """Means and deviations of `points` rows spread evenly over the data of all hosts."""
    count, width = features.shape
    step = max(1, int(np.ceil(count * group.size / max(points, 1))))
    rows = features[::step]
    marks = labels[::step].astype(np.float64)
    is_dense = isinstance(rows, np.ndarray)
    wide = rows.astype(np.float64)
    squares = wide**2 if is_dense else wide.multiply(wide)
    # Around a point of the data, so that large means do not swallow small deviations.
    origin = np.zeros(width)
    if is_dense and group.size == 1 and len(wide):
        origin = wide.mean(axis=0)
        wide = wide - origin
        squares = wide**2
    label_origin = float(marks.mean()) if group.size == 1 and len(marks) else 0.0
    marks = marks - label_origin
    sums = group.sum(
        np.concatenate(
            [
                np.asarray(wide.sum(axis=0)).ravel(),
                np.asarray(squares.sum(axis=0)).ravel(),
                [marks.sum(), (marks**2).sum(), float(rows.shape[0])],
            ]
        )
    )
    total = max(sums[-1], 1.0)
    mean = sums[:width] / total
    deviation = np.sqrt(np.maximum(sums[width : 2 * width] / total - mean**2, 0.0))
    label_mean = sums[-3] / total
    label_deviation = float(np.sqrt(max(sums[-2] / total - label_mean**2, 0.0)))
    deviation[deviation < 1e-12 * np.maximum(1.0, np.abs(mean + origin))] = 1.0
    return Scaler(
        mean=mean + origin if centers else np.zeros(width),
        deviation=deviation if scales else np.ones(width),
        label_mean=label_mean + label_origin if centers_labels else 0.0,
        label_deviation=label_deviation if scales_labels and label_deviation > 0 else 1.0,
    )


@dataclass(frozen=True)
class Rows:
    """One host's rows; `targets` are numbers, 0 and 1, or whole numbers of classes."""

    features: Any
    targets: np.ndarray
    weights: np.ndarray

    @property
    def count(self) -> int:
        return self.features.shape[0]

    @property
    def width(self) -> int:
        return self.features.shape[1]

    def parts(self) -> Iterator[Rows]:
        """Pieces that fit into the processor's cache."""
        for start in range(0, self.count, ROWS_AT_ONCE):
            piece = slice(start, start + ROWS_AT_ONCE)
            yield Rows(self.features[piece], self.targets[piece], self.weights[piece])

    def sample(self, size: int, seed: int) -> Rows:
        """At most `size` rows, at random."""
        if self.count <= size:
            return self
        chosen = np.sort(np.random.default_rng(seed).choice(self.count, size, replace=False))
        return Rows(self.features[chosen], self.targets[chosen], self.weights[chosen])


def scores(features: Any, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """(rows, models)."""
    return features @ weights.astype(np.float32) + bias.astype(np.float32)
