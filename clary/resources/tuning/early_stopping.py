"""Which running training jobs are stopped before their end, by the values of the objective that they emitted.

Auto: a job whose latest value is worse than the median of the others' running averages up to the same epoch.
Hyperband: successive halving in brackets; at each rung the best third go on.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from clary.resources.tuning.trials import Objective, Trial

COMPLETED_MIN = 4  # jobs that ended, before any is stopped
EPOCHS_MIN = 2  # of a job, before it is judged
REDUCTION = 3
RESOURCE_NAMES = ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs")


def below_median(running: Trial, others: Sequence[Trial], objective: Objective) -> bool:
    """Auto early stopping, as SageMaker describes it."""
    epoch = len(running.curve)
    compared = [
        _average(one.curve[:epoch], objective)
        for one in others
        if one.status == "Completed" and len(one.curve) >= epoch
    ]
    if epoch < EPOCHS_MIN or len(compared) < COMPLETED_MIN:
        return False
    return objective.cost(running.curve[-1]) > statistics.median(compared)


def _average(values: Sequence[float], objective: Objective) -> float:
    return objective.cost(math.fsum(values) / len(values))


def brackets(low: int, high: int) -> list[list[int]]:
    """The rungs of each bracket, in epochs: the first one halves from `low`, the last one never."""
    depth = int(math.log(high / low, REDUCTION) + 1e-9) if high > low else 0
    return [
        [low * REDUCTION**step for step in range(start, depth + 1) if low * REDUCTION**step < high]
        for start in range(depth + 1)
    ]


def bracket_of(number: int, count: int) -> int:
    """Trial `number` (from 0): of three trials, one goes to the next bracket, and of those again one of three."""
    bracket = 0
    while bracket < count - 1 and number % REDUCTION == REDUCTION - 1:
        number //= REDUCTION
        bracket += 1
    return bracket


def misses_rung(
    number: int, trials: Sequence[Trial], rungs: Sequence[Sequence[int]], objective: Objective
) -> bool:
    """Whether trial `number` stands at a rung and is not among the best third of those that reached it."""
    own = bracket_of(number, len(rungs))
    trial = trials[number]
    for rung in rungs[own]:
        if len(trial.curve) < rung:
            return False
        costs = [
            objective.cost(one.curve[rung - 1])
            for place, one in enumerate(trials)
            if bracket_of(place, len(rungs)) == own
            and one.definition == trial.definition
            and len(one.curve) >= rung
        ]
        better = sum(cost < objective.cost(trial.curve[rung - 1]) for cost in costs)
        if better >= max(1, math.ceil(len(costs) / REDUCTION)):
            return True
    return False


def most_epochs(static: Mapping[str, str]) -> int | None:
    """The number of epochs among static hyperparameters, from which Hyperband infers MaxResource."""
    for name in RESOURCE_NAMES:
        value = static.get(name, "").strip('"')
        if value.isdecimal() and int(value) > 0:
            return int(value)
    return None
