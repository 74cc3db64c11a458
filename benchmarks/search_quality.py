"""Simple regret of the Bayesian strategy on Branin and Hartmann6, beside random search, and the time of a suggestion.

python benchmarks/search_quality.py [--seeds 20] [--functions branin hartmann6]

Everything but the training jobs is the product's own: the start of the search, the question, and its answer.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clary.resources.tuning.search_space import Numbers, Space
from clary.resources.tuning.suggestions import Evaluated, question, spread_point
from clary.workloads.tuning.suggest import suggest

PEAKS = (
    (1.0, (10, 3, 17, 3.5, 1.7, 8), (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886)),
    (1.2, (0.05, 10, 17, 0.1, 8, 14), (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991)),
    (3.0, (3, 3.5, 1.7, 10, 17, 8), (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650)),
    (3.2, (17, 8, 0.05, 10, 0.1, 14), (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381)),
)


def branin(point: Sequence[float]) -> float:
    """Above its least value; on the unit square."""
    x, y = 15.0 * point[0] - 5.0, 15.0 * point[1]
    curve = y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6
    return curve**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.39788735772973816


def hartmann6(point: Sequence[float]) -> float:
    """Above its least value; on the unit cube."""
    total = 0.0
    for height, widths, place in PEAKS:
        away = sum(w * (x - p) ** 2 for w, x, p in zip(widths, point, place, strict=True))
        total += height * math.exp(-away)
    return 3.32236801141551 - total


@dataclass(frozen=True)
class Problem:
    value: Callable[[Sequence[float]], float]
    dimensions: int
    trials: int
    bound: float


PROBLEMS = {
    "branin": Problem(branin, 2, 20, 0.2),
    "hartmann6": Problem(hartmann6, 6, 50, 0.01),
}


def searched(problem: Problem, seed: int, seconds: list[float]) -> float:
    space = Space(tuple(Numbers(f"x{n}", 0.0, 1.0, "Linear") for n in range(problem.dimensions)))
    known: list[Evaluated] = []
    while len(known) < problem.trials:
        asked = question(space, known, seed)
        if asked is None:
            point = spread_point(problem.dimensions, len(known), seed)
        else:
            started = time.process_time()
            point = suggest(asked)["point"]
            seconds.append(time.process_time() - started)
        known.append(Evaluated(tuple(point), problem.value(point)))
    return min(one.value for one in known if one.value is not None)


def drawn(problem: Problem, seed: int) -> float:
    numbers = random.Random(seed)
    return min(
        problem.value([numbers.random() for _ in range(problem.dimensions)])
        for _ in range(problem.trials)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--functions", nargs="*", default=list(PROBLEMS), choices=list(PROBLEMS))
    options = parser.parse_args()
    suggest(
        {
            "dimensions": [{}],
            "points": [[0.1], [0.9]],
            "values": [1.0, 2.0],
            "pending": [],
            "seed": 1,
        }
    )
    print(
        f"{'function':<12}{'trials':>7}{'random':>10}{'Bayesian':>10}{'quartiles':>20}{'bound':>8}{'ms':>7}{'p95':>7}"
    )
    for name in options.functions:
        problem = PROBLEMS[name]
        seconds: list[float] = []
        found = sorted(searched(problem, seed, seconds) for seed in range(options.seeds))
        others = [drawn(problem, seed) for seed in range(options.seeds)]
        seconds.sort()
        quartiles = f"{found[len(found) // 4]:.2g} to {found[3 * len(found) // 4]:.2g}"
        print(
            f"{name:<12}{problem.trials:>7}{statistics.median(others):>10.3g}"
            f"{statistics.median(found):>10.2g}{quartiles:>20}{problem.bound:>8}"
            f"{1e3 * statistics.median(seconds):>7.0f}{1e3 * seconds[int(len(seconds) * 0.95)]:>7.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
