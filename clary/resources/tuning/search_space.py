"""The search space of a training job definition: ranges, their scales, and values as SageMaker writes them.

A point is a row of the unit cube, one coordinate for each hyperparameter in the order of the space.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEVELS_MAX = 256  # a range of more whole numbers is searched as if it were continuous
WIDE = 100.0  # Auto takes the logarithm of a range whose ends are so many times apart


@dataclass(frozen=True, slots=True)
class Numbers:
    """A range of numbers; `scaling` is Linear, Logarithmic or ReverseLogarithmic."""

    name: str
    low: float
    high: float
    scaling: str
    whole: bool = False

    def value(self, place: float) -> str:
        """The value at a coordinate, in the words of a hyperparameter."""
        low, high = self._warp(self.low), self._warp(self.high)
        number = self._unwarp(low + (high - low) * min(max(place, 0.0), 1.0))
        number = min(max(number, self.low), self.high)
        return str(round(number)) if self.whole else repr(float(number))

    def place(self, value: str) -> float | None:
        """The coordinate of a value; None where it lies outside."""
        try:
            number = float(value)
        except ValueError:
            return None
        if not self.low <= number <= self.high:
            return None
        low, high = self._warp(self.low), self._warp(self.high)
        return (self._warp(number) - low) / (high - low) if high > low else 0.0

    def dimension(self) -> dict[str, Any]:
        """As the adviser wants it told."""
        if not self.whole or self.high - self.low >= LEVELS_MAX:
            return {}
        values = range(round(self.low), round(self.high) + 1)
        return {"levels": [self.place(str(one)) for one in values]}

    def _warp(self, number: float) -> float:
        match self.scaling:
            case "Logarithmic":
                return math.log(number)
            case "ReverseLogarithmic":
                return -math.log1p(-number)
            case _:
                return number

    def _unwarp(self, number: float) -> float:
        match self.scaling:
            case "Logarithmic":
                return math.exp(number)
            case "ReverseLogarithmic":
                return -math.expm1(-number)
            case _:
                return number


@dataclass(frozen=True, slots=True)
class Choices:
    """Values without an order."""

    name: str
    values: tuple[str, ...]

    def value(self, place: float) -> str:
        return self.values[min(int(place * len(self.values)), len(self.values) - 1)]

    def place(self, value: str) -> float | None:
        if value not in self.values:
            return None
        return (self.values.index(value) + 0.5) / len(self.values)

    def dimension(self) -> dict[str, Any]:
        return {"choices": len(self.values)}


Parameter = Numbers | Choices


@dataclass(frozen=True, slots=True)
class Space:
    parameters: tuple[Parameter, ...]

    @staticmethod
    def of(ranges: Mapping[str, Any]) -> Space:
        """Of a ParameterRanges that was checked."""
        found: list[Parameter] = []
        for one in ranges.get("IntegerParameterRanges") or []:
            found.append(_numbers(one, whole=True))
        for one in ranges.get("ContinuousParameterRanges") or []:
            found.append(_numbers(one, whole=False))
        for one in ranges.get("CategoricalParameterRanges") or []:
            found.append(Choices(one["Name"], tuple(one["Values"])))
        return Space(tuple(found))

    def values(self, point: Sequence[float]) -> dict[str, str]:
        return {
            one.name: one.value(place) for one, place in zip(self.parameters, point, strict=True)
        }

    def point(self, values: Mapping[str, str]) -> list[float] | None:
        """Where values lie; None where one is missing or outside."""
        places: list[float] = []
        for one in self.parameters:
            place = one.place(values[one.name]) if one.name in values else None
            if place is None:
                return None
            places.append(place)
        return places

    def dimensions(self) -> list[dict[str, Any]]:
        return [one.dimension() for one in self.parameters]

    def grid_size(self) -> int:
        """How many combinations a space of choices has."""
        return math.prod(len(one.values) for one in self.parameters if isinstance(one, Choices))

    def grid(self) -> Iterator[dict[str, str]]:
        """Every combination of a space of choices, the last hyperparameter fastest."""
        choices = [one for one in self.parameters if isinstance(one, Choices)]
        for values in itertools.product(*(one.values for one in choices)):
            yield {one.name: value for one, value in zip(choices, values, strict=True)}


def _numbers(given: Mapping[str, Any], *, whole: bool) -> Numbers:
    low, high = float(given["MinValue"]), float(given["MaxValue"])
    scaling = given.get("ScalingType") or "Auto"
    if scaling == "Auto":
        scaling = "Logarithmic" if low > 0 and high / low >= WIDE else "Linear"
    return Numbers(given["Name"], low, high, scaling, whole)
