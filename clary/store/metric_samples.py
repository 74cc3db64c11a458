"""Samples: the weighted values of a metric's period, kept few, and the percentiles they give."""

from __future__ import annotations

from collections.abc import Iterable

Samples = tuple[tuple[float, float], ...]  # (value, weight), by value

SAMPLES_MAX = 500  # distinct values of one period; CloudWatch takes 150 in one datum


def merged(groups: Iterable[Samples]) -> Samples:
    """All groups as one, sorted. Beyond SAMPLES_MAX neighbours are averaged, the extremes kept."""
    weights: dict[float, float] = {}
    for group in groups:
        for value, weight in group:
            weights[value] = weights.get(value, 0.0) + weight
    return _thinned(sorted(weights.items()))


def percentile(samples: Samples, percent: float) -> float:
    """The value below which `percent` of the samples lie, between neighbours in proportion."""
    total = sum(weight for _, weight in samples)
    # The k-th of n samples stands at k - 1 of n - 1 steps; a weight is that many equal samples.
    place = percent / 100.0 * max(0.0, total - 1.0)
    passed = 0.0
    for index, (value, weight) in enumerate(samples):
        last = passed + weight - 1.0
        if place <= last or index == len(samples) - 1:
            return value
        if place < last + 1.0:
            return value + (samples[index + 1][0] - value) * (place - last)
        passed += weight
    raise ValueError("a percentile of no samples")


def between(samples: Samples, low: float, high: float) -> Samples:
    """The part of the samples from `low` to `high` percent of their weight."""
    total = sum(weight for _, weight in samples)
    start, end = total * low / 100.0, total * high / 100.0
    kept: list[tuple[float, float]] = []
    passed = 0.0
    for value, weight in samples:
        inside = min(passed + weight, end) - max(passed, start)
        if inside > 0:
            kept.append((value, inside))
        passed += weight
    return tuple(kept)


def _thinned(ordered: list[tuple[float, float]]) -> Samples:
    while len(ordered) > SAMPLES_MAX:
        inner = ordered[1:-1]
        pairs = [_average(inner[index : index + 2]) for index in range(0, len(inner), 2)]
        ordered = [ordered[0], *pairs, ordered[-1]]
    return tuple(ordered)


def _average(pair: list[tuple[float, float]]) -> tuple[float, float]:
    weight = sum(own for _, own in pair)
    return sum(value * own for value, own in pair) / weight, weight
