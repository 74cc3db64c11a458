"""When a search is over, and how it ended: limits, completion criteria, and trials that all fail. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from clary.resources.tuning.trials import Objective, Trial, best_trial, not_improving
from clary.store.rows import Row

FAILURES_MAX = 5  # trials without a value, before the search gives up
CONVERGED_TRIALS_MIN = 20
CONVERGED_NOT_IMPROVING = 15
REASON_CHARACTERS_MAX = 1_024


@dataclass(frozen=True, slots=True)
class Finish:
    status: str
    reason: str = ""
    converged: bool = False

    def kept(self) -> dict[str, Any]:
        return asdict(self)


def finish_of(
    row: Row,
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    *,
    exhausted: bool,
    now: float,
) -> Finish | None:
    """How the search ends now; None while it goes on. `exhausted`: no further trial may begin."""
    config = row.document["HyperParameterTuningJobConfig"]
    ended = [one for one in trials if not one.is_open]
    succeeded = any(one.counts for one in ended)
    is_done = exhausted and len(ended) == len(trials)
    if not succeeded and ended and (is_done or len(ended) >= FAILURES_MAX):
        return Finish("Failed", _why_all_failed(ended))
    seconds_max = config["ResourceLimits"].get("MaxRuntimeInSeconds")
    if seconds_max and now - row.created >= seconds_max:
        return Finish("Completed")
    criteria = config.get("TuningJobCompletionCriteria") or {}
    if succeeded and _target_is_met(criteria, trials, objectives):
        return Finish("Completed")
    stagnant = (criteria.get("BestObjectiveNotImproving") or {}).get(
        "MaxNumberOfTrainingJobsNotImproving"
    )
    count = _least_not_improving(trials, objectives)
    if stagnant and count >= stagnant:
        return Finish("Completed")
    is_flat = (
        count >= CONVERGED_NOT_IMPROVING
        and sum(one.counts for one in trials) >= CONVERGED_TRIALS_MIN
    )
    if is_flat and _converges(criteria, row):
        return Finish("Completed", converged=True)
    return Finish("Completed") if is_done else None


def _target_is_met(
    criteria: Mapping[str, Any], trials: Sequence[Trial], objectives: Sequence[Objective]
) -> bool:
    target = criteria.get("TargetObjectiveMetricValue")
    best = best_trial(trials, objectives)
    if target is None or best is None or best.objective is None:
        return False
    return objectives[0].cost(best.objective) <= objectives[0].cost(target)


def _converges(criteria: Mapping[str, Any], row: Row) -> bool:
    asked = (criteria.get("ConvergenceDetected") or {}).get("CompleteOnConvergence")
    return asked == "Enabled" or (asked is None and bool(row.document.get("Autotune")))


def _least_not_improving(trials: Sequence[Trial], objectives: Sequence[Objective]) -> int:
    """Of several definitions, the one that improved last counts."""
    return min(
        not_improving([one for one in trials if one.definition == number], objective)
        for number, objective in enumerate(objectives)
    )


def _why_all_failed(ended: Sequence[Trial]) -> str:
    silent = [one for one in ended if one.status == "Completed"]
    if silent:
        return (
            f"No objective metrics found after running {len(ended)} training jobs. Please ensure "
            "that the custom algorithm is emitting the objective metric as defined by the regular "
            "expression provided."
        )
    reasons = [f" {one.name}: {one.failure}" for one in ended if one.failure]
    reason = reasons[-1] if reasons else ""
    return (
        "All training jobs failed. Please take a look at the training jobs failures to get more "
        f"details.{reason}"
    )[:REASON_CHARACTERS_MAX]
