"""What to try next by strategy. Pure: the same trials and seed give the same suggestion, so a crash loses none.

Random, Hyperband and the start of Bayesian take a low-discrepancy sequence, shifted by the seed: it fills the
space more evenly than independent draws. Grid goes through all combinations. Bayesian then asks the adviser.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clary.resources.tuning.search_space import Space

ADVISER = "clary.workloads.tuning"
ATTEMPTS_MAX = 50
INDEPENDENT_DIMENSIONS = 12  # beyond, the sequence is no better than independent draws
EXPLORED_MAX = 30


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What is known of a point: its value, small is good; None while it runs."""

    point: tuple[float, ...]
    value: float | None


def start_count(dimensions: int) -> int:
    """How many points fill the space before the search learns from them."""
    return min(max(5, dimensions + 2), EXPLORED_MAX)


def spread_point(dimensions: int, number: int, seed: int) -> list[float]:
    """The point `number` of an additive recurrence by powers of the generalised golden ratio."""
    shifts = random.Random(seed)
    if dimensions > INDEPENDENT_DIMENSIONS:
        drawn = random.Random(f"{seed}/{number}")
        return [drawn.random() for _ in range(dimensions)]
    ratio = _golden_ratio(dimensions)
    return [
        (shifts.random() + (number + 1) * ratio ** -(place + 1)) % 1.0
        for place in range(dimensions)
    ]


def spread_values(
    space: Space, number: int, seed: int, tried: Sequence[Mapping[str, str]]
) -> dict[str, str]:
    """The values of a spread point; one that was tried before gives way to another where there is one."""
    dimensions = len(space.parameters)
    values = space.values(spread_point(dimensions, number, seed))
    drawn = random.Random(f"{seed}:{number}")
    for _ in range(ATTEMPTS_MAX):
        if values not in tried:
            break
        values = space.values([drawn.random() for _ in range(dimensions)])
    return values


def grid_values(space: Space, number: int) -> dict[str, str] | None:
    """The combination `number` of the grid; None after the last."""
    return next(itertools.islice(space.grid(), number, None), None)


def question(space: Space, evaluated: Sequence[Evaluated], seed: int) -> dict[str, Any] | None:
    """What to ask the adviser; None while too little is known."""
    done = [one for one in evaluated if one.value is not None]
    if len(done) < 2 or len(evaluated) < start_count(len(space.parameters)):
        return None
    return {
        "dimensions": space.dimensions(),
        "points": [one.point for one in done],
        "values": [one.value for one in done],
        "pending": [one.point for one in evaluated if one.value is None],
        "seed": (seed * 1_000_003 + len(evaluated)) % 2**32,
    }


def _golden_ratio(dimensions: int) -> float:
    """The positive root of x ** (dimensions + 1) = x + 1."""
    ratio = 2.0
    for _ in range(64):
        ratio = (1.0 + ratio) ** (1.0 / (dimensions + 1))
    return ratio
