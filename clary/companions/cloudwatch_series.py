"""A metric's time series: one statistic of each period, read from what was put."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clary.store import metric_data
from clary.store.database import Store
from clary.store.metric_data import Metric, Period
from clary.store.metric_samples import Samples, between, percentile

SHORT_PERIODS = frozenset((1, 5, 10, 20, 30))
DAY = 24 * 3600

_PLAIN: dict[str, Callable[[Period], float]] = {
    "SampleCount": lambda period: period.count,
    "Sum": lambda period: period.sum,
    "Average": lambda period: period.sum / period.count if period.count else 0.0,
    "Minimum": lambda period: period.minimum,
    "Maximum": lambda period: period.maximum,
}
_NUMBER = r"\d{1,3}(?:\.\d{1,10})?"
_PERCENTILE = re.compile(rf"p({_NUMBER})", re.IGNORECASE)
_TRIMMED = re.compile(rf"(tm|wm|tc|ts)({_NUMBER})", re.IGNORECASE)
_BETWEEN = re.compile(rf"(tm|wm|tc|ts)\(({_NUMBER})?%?:({_NUMBER})?%\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statistic:
    """How one number is made of a period; `of_samples` is set where its values are needed."""

    name: str
    of_period: Callable[[Period], float] | None = None
    of_samples: Callable[[Samples], float] | None = None


def statistic_of(name: str) -> Statistic | None:
    """`Average`, `p99.9`, `tm90`, `TM(10%:90%)`, `IQM`, ...; None for what CloudWatch does not know."""
    if name in _PLAIN:
        return Statistic(name, of_period=_PLAIN[name])
    if found := _PERCENTILE.fullmatch(name):
        percent = float(found[1])
        if percent <= 100:
            return Statistic(name, of_samples=lambda samples: percentile(samples, percent))
        return None
    if name.upper() == "IQM":
        return _trimmed(name, "TM", 25.0, 75.0)
    if found := _TRIMMED.fullmatch(name):
        return _trimmed(name, found[1].upper(), 0.0, float(found[2]))
    if (found := _BETWEEN.fullmatch(name)) and (found[2] or found[3]):
        return _trimmed(name, found[1].upper(), float(found[2] or 0), float(found[3] or 100))
    return None


def values_of(
    telemetry: Store,
    metric: int | None,
    statistic: Statistic,
    start: int,
    end: int,
    *,
    period: int,
    origin: int = 0,
) -> dict[tuple[int, str], float]:
    """The statistic of each (period, unit) that has data in [start, end)."""
    if metric is None:
        return {}
    span: dict[str, Any] = {"period": period, "origin": origin}
    if statistic.of_samples is not None:
        found = metric_data.samples(telemetry, metric, start, end, **span)
        return {key: statistic.of_samples(kept) for key, kept in found.items() if kept}
    assert statistic.of_period is not None
    periods = metric_data.statistics(telemetry, metric, start, end, **span)
    return {(one.start, one.unit): statistic.of_period(one) for one in periods}


def series_of(
    telemetry: Store,
    metric: Metric,
    statistic: Statistic,
    start: int,
    end: int,
    *,
    period: int,
    unit: str | None = None,
) -> dict[int, float]:
    """A series whose periods begin at multiples of `period`; units are left aside unless one is asked for."""
    row = metric_data.find(telemetry, metric)
    if row is None:
        return {}
    span: dict[str, Any] = {"period": period, "any_unit": unit is None}
    if statistic.of_samples is not None:
        kept = metric_data.samples(telemetry, row, start, end, **span)
        wanted = unit or ""
        return {
            when: statistic.of_samples(values)
            for (when, own), values in kept.items()
            if values and own == wanted
        }
    assert statistic.of_period is not None
    periods = metric_data.statistics(telemetry, row, start, end, **span)
    return {one.start: statistic.of_period(one) for one in periods if one.unit == (unit or "")}


def rounded_start(start: float, period: int, now: float) -> int:
    """GetMetricStatistics documents the rounding: the older, the coarser."""
    age = now - start
    step = 60 if age < 15 * DAY else 300 if age < 63 * DAY else 3600
    if period in (5, 10, 20, 30) or (period == 1 and age < 3 * 3600):
        step = period
    return int(start) - int(start) % step


def period_is_valid(period: int) -> bool:
    return period in SHORT_PERIODS or (period >= 60 and period % 60 == 0)


def _trimmed(name: str, kind: str, low: float, high: float) -> Statistic | None:
    if not 0 <= low < high <= 100:
        return None

    def value(samples: Samples) -> float:
        inside = between(samples, low, high)
        weight = sum(own for _, own in inside)
        total = sum(value * own for value, own in inside)
        if kind == "TC":
            return weight
        if kind == "TS":
            return total
        if kind == "TM":
            return total / weight
        # Winsorized: what is cut off counts as the value at the cut.
        whole = sum(own for _, own in samples)
        below, above = whole * low / 100.0, whole * (100.0 - high) / 100.0
        return (total + below * inside[0][0] + above * inside[-1][0]) / whole

    return Statistic(name, of_samples=value)
