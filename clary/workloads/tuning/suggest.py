"""The next point of a Bayesian search: the one that is expected to improve most on the best value so far.

Points are rows of the unit cube, one coordinate for each hyperparameter; values are to be small. A dimension is
`{}` (any number), `{"levels": [...]}` (only these coordinates) or `{"choices": n}` (n values without an order).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import optimize, special

from clary.workloads.tuning.gaussian_process import Array, GaussianProcess, fit

POINTS_MAX = 400  # the posterior rests on the best and the latest of more
CANDIDATES = 768
STARTS = 4
STEPS_MAX = 40
SAME = 1e-9
POWERS = np.linspace(-1.0, 3.0, 33)


def suggest(question: Mapping[str, Any]) -> dict[str, Any]:
    """Answer `{"dimensions", "points", "values", "pending", "seed"}` by `{"point": [...]}`.

    Two points are the least to learn from; with fewer the answer is empty.
    """
    if len(question["points"]) < 2:
        return {}
    random = np.random.default_rng(question["seed"])
    dimensions = question["dimensions"]
    points = np.array(question["points"], dtype=float)
    raw = np.array(question["values"], dtype=float)
    points, values = _most_telling(points, _standardised(raw))
    inner = _encoded(points, dimensions)
    process = fit(inner, values, random)
    pending = question["pending"]
    tried = points
    if pending:
        # What still runs is believed to end as predicted, so that the next point looks elsewhere.
        waiting = np.array(pending, dtype=float)
        encoded = _encoded(waiting, dimensions)
        believed = process.predict(encoded)[0]
        tried = np.concatenate([points, waiting])
        inner = np.concatenate([inner, encoded])
        process = process.conditioned(inner, np.concatenate([values, believed]))
    best = float(np.min(process.predict(inner)[0]))
    found = _most_promising(process, best, tried, values, dimensions, random)
    return {"point": [float(one) for one in found]}


def _standardised(values: Array) -> Array:
    """Values as a Gaussian process expects them: the power (Yeo-Johnson) that makes them most normal, deviation 1.

    Without it a few far values hide all differences between the others.
    """
    scaled = _centred(values / max(float(np.max(np.abs(values))), 1e-300))
    logarithms = np.sign(scaled) * np.log1p(np.abs(scaled))
    warped = scaled
    most = -math.inf
    for power in POWERS:
        tried = _raised(scaled, float(power))
        variance = float(np.var(tried))
        if variance > 1e-12:
            likelihood = (power - 1.0) * float(np.sum(logarithms))
            likelihood -= 0.5 * len(values) * math.log(variance)
            if likelihood > most:
                most, warped = likelihood, tried
    return _centred(warped)


def _centred(values: Array) -> Array:
    deviation = float(np.std(values))
    return (values - np.mean(values)) / (deviation if deviation > 1e-15 else 1.0)


def _raised(values: Array, power: float) -> Array:
    """Yeo and Johnson's transformation: a power above zero, its mirror image below."""
    above, below = np.maximum(values, 0.0), np.maximum(-values, 0.0)
    mirrored = 2.0 - power
    upper = np.log1p(above) if abs(power) < 1e-9 else ((above + 1.0) ** power - 1.0) / power
    lower = (
        np.log1p(below) if abs(mirrored) < 1e-9 else ((below + 1.0) ** mirrored - 1.0) / mirrored
    )
    return np.where(values >= 0, upper, -lower)


def _most_telling(points: Array, values: Array) -> tuple[Array, Array]:
    if len(points) <= POINTS_MAX:
        return points, values
    best = np.argsort(values)[: POINTS_MAX // 2]
    latest = np.setdiff1d(np.arange(len(points)), best)[-(POINTS_MAX // 2) :]
    chosen = np.sort(np.concatenate([best, latest]))
    return points[chosen], values[chosen]


def _encoded(points: Array, dimensions: Sequence[Mapping[str, Any]]) -> Array:
    """Choices become one coordinate each, at equal distances from each other."""
    columns: list[Array] = []
    for index, dimension in enumerate(dimensions):
        column = points[:, index]
        count = dimension.get("choices")
        if count is None:
            columns.append(column[:, None])
        else:
            chosen = np.minimum((column * count).astype(int), count - 1)
            columns.append(np.eye(count)[chosen] / math.sqrt(2.0))
    return np.concatenate(columns, axis=1)


def _snapped(points: Array, dimensions: Sequence[Mapping[str, Any]]) -> Array:
    """The nearest points that can be tried."""
    snapped = np.clip(points, 0.0, 1.0)
    for index, dimension in enumerate(dimensions):
        if "levels" in dimension:
            levels = np.array(dimension["levels"])
            nearest = np.argmin(np.abs(snapped[:, index, None] - levels[None, :]), axis=1)
            snapped[:, index] = levels[nearest]
        elif "choices" in dimension:
            count = dimension["choices"]
            snapped[:, index] = (
                np.minimum(np.floor(snapped[:, index] * count), count - 1) + 0.5
            ) / count
    return snapped


def _most_promising(
    process: GaussianProcess,
    best: float,
    tried: Array,
    values: Array,
    dimensions: Sequence[Mapping[str, Any]],
    random: np.random.Generator,
) -> Array:
    """The best of many candidates, after the most hopeful of them climbed; never one that was tried."""
    candidates = _snapped(_candidates(tried, values, random), dimensions)
    gains = log_improvement(process, _encoded(candidates, dimensions), best)
    order = np.argsort(-gains)
    free = [index for index, one in enumerate(dimensions) if "choices" not in one]
    climbed = [
        _climb(process, candidates[index], best, dimensions, free) for index in order[:STARTS]
    ]
    everything = np.concatenate([_snapped(np.array(climbed), dimensions), candidates])
    gains = np.concatenate(
        [log_improvement(process, _encoded(everything[: len(climbed)], dimensions), best), gains]
    )
    for index in np.argsort(-gains):
        if np.min(np.max(np.abs(tried - everything[index]), axis=1)) > SAME:
            return everything[index]
    return everything[int(np.argmax(gains))]


def _candidates(tried: Array, values: Array, random: np.random.Generator) -> Array:
    """Spread over the whole cube, and close around the best points."""
    dimensions = tried.shape[1]
    spread = random.random((CANDIDATES, dimensions))
    leaders = tried[np.argsort(values)[:5]]
    scales = np.repeat([0.1, 0.02, 0.004], 10)
    near = [
        leader + scales[:, None] * random.standard_normal((30, dimensions)) for leader in leaders
    ]
    # A step in one coordinate alone finds the neighbours of whole numbers and choices.
    single = leaders[random.integers(len(leaders), size=128)].copy()
    single[np.arange(128), random.integers(dimensions, size=128)] = random.random(128)
    return np.clip(np.concatenate([spread, *near, single]), 0.0, 1.0)


def _climb(
    process: GaussianProcess,
    start: Array,
    best: float,
    dimensions: Sequence[Mapping[str, Any]],
    free: Sequence[int],
) -> Array:
    """Up the gradient of the expected improvement, in the coordinates that are numbers."""
    if not free:
        return start
    fixed = _encoded(start[None, :], dimensions)[0]
    places = _places(dimensions)
    inner = [places[index] for index in free]

    def downhill(moved: Array) -> tuple[float, Array]:
        at = fixed.copy()
        at[inner] = moved
        mean, variance, mean_slope, variance_slope = process.predict_with_gradient(at)
        deviation = math.sqrt(variance)
        z = (best - mean) / deviation
        ratio = float(_normal_ratio(np.array([z]))[0])
        gain = math.log(deviation) + float(_log_h(np.array([z]))[0])
        # d log h / dz = Phi / h, and h = phi (1 + z Phi / phi)
        rise = ratio / max(1.0 + z * ratio, 1e-300)
        deviation_slope = variance_slope / (2.0 * deviation)
        slope = deviation_slope / deviation + rise * (-mean_slope - z * deviation_slope) / deviation
        return -gain, -slope[inner]

    found = optimize.minimize(
        downhill,
        start[list(free)],
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, 1.0)] * len(free),
        options={"maxiter": STEPS_MAX},
    )
    reached = start.copy()
    reached[list(free)] = found.x
    return reached


def _places(dimensions: Sequence[Mapping[str, Any]]) -> list[int]:
    places: list[int] = []
    place = 0
    for dimension in dimensions:
        places.append(place)
        place += dimension.get("choices", 1)
    return places


def log_improvement(process: GaussianProcess, at: Array, best: float) -> Array:
    """The logarithm of the expected improvement: it has a slope where the improvement itself underflows."""
    mean, variance = process.predict(at)
    deviation = np.sqrt(variance)
    return np.log(deviation) + _log_h((best - mean) / deviation)


def _log_h(z: Array) -> Array:
    """log(phi(z) + z Phi(z)) without cancellation."""
    far = np.minimum(z, -1.0)
    inside = np.where(far > -1e3, 1.0 + far * _normal_ratio(far), 1.0 / np.maximum(far * far, 1.0))
    left = -0.5 * far * far - 0.5 * math.log(2 * math.pi) + np.log(np.maximum(inside, 1e-300))
    near = np.maximum(z, -1.0)
    density = np.exp(-0.5 * near * near) / math.sqrt(2 * math.pi)
    return np.where(z < -1.0, left, np.log(density + near * special.ndtr(near)))


def _normal_ratio(z: Array) -> Array:
    """Phi(z) / phi(z)."""
    return math.sqrt(math.pi / 2.0) * special.erfcx(-np.minimum(z, 30.0) / math.sqrt(2.0))
