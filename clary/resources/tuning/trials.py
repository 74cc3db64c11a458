"""Trials: the training jobs of a tuning job as its row remembers them, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from clary.reconcile.observations import Exited, Running
from clary.store.rows import Row

CURVE_MAX = 200  # values of one trial that are kept to judge it and others by
ENDED = ("Completed", "Failed", "Stopped")


@dataclass(frozen=True, slots=True)
class Trial:
    """One training job: what it tries, and how far it is. Written down before the job is made."""

    name: str
    definition: int  # index of its training job definition
    values: Mapping[str, str]
    status: str = "InProgress"
    made: bool = False  # its training job was seen
    arn: str = ""
    created: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    objective: float | None = None
    failure: str = ""
    halted: str = ""  # why it was stopped before its end: "early" or "limit"
    curve: Sequence[float] = field(default_factory=list[float])

    @property
    def is_open(self) -> bool:
        return self.status not in ENDED

    @property
    def objective_status(self) -> str:
        """A job that was stopped counts with the latest value it had."""
        if self.is_open:
            return "Pending"
        return "Succeeded" if self.counts else "Failed"

    @property
    def counts(self) -> bool:
        return self.status in ("Completed", "Stopped") and self.objective is not None


@dataclass(frozen=True, slots=True)
class Objective:
    metric: str
    maximize: bool

    @staticmethod
    def of(given: Mapping[str, Any]) -> Objective:
        return Objective(given["MetricName"], given["Type"] == "Maximize")

    @property
    def type(self) -> str:
        return "Maximize" if self.maximize else "Minimize"

    def cost(self, value: float) -> float:
        """Small is good."""
        return -value if self.maximize else value


def trials_of(row: Row) -> list[Trial]:
    return [Trial(**one) for one in row.state.get("trials", [])]


def kept(trials: Iterable[Trial]) -> dict[str, Any]:
    """The member of a row's state; members that say nothing are left out, since rows hold many trials."""
    return {"trials": [_plain(one) for one in trials]}


def _plain(trial: Trial) -> dict[str, Any]:
    always = ("name", "definition", "values", "status")
    return {
        name: value
        for name, value in asdict(trial).items()
        if name in always or value not in ("", 0.0, False, None, [])
    }


def followed(trial: Trial, seen: Running) -> Trial:
    facts = seen.facts
    return replace(
        trial,
        status=seen.phase,
        made=True,
        arn=facts.get("arn", trial.arn),
        created=facts.get("created", trial.created),
        started=facts.get("started") or trial.started,
        objective=facts.get("value", trial.objective),
        curve=facts.get("curve", trial.curve)[:CURVE_MAX],
    )


def settled(trial: Trial, seen: Exited, now: float) -> Trial:
    """The trial at its end; a job that was refused failed before it began."""
    facts = seen.outcome
    if seen.result == "refused":
        reason = f"{facts.get('code', '')}: {facts.get('failure', '')}"[:1024]
        return replace(trial, status="Failed", created=now, ended=now, failure=reason)
    return replace(
        trial,
        status=seen.result,
        made=True,
        arn=facts.get("arn", trial.arn),
        created=facts.get("created", trial.created),
        started=facts.get("started") or trial.started,
        ended=facts.get("ended") or now,
        objective=facts.get("value", trial.objective),
        failure=str(facts.get("failure") or ""),
        curve=facts.get("curve", trial.curve)[:CURVE_MAX],
    )


def status_counters(trials: Iterable[Trial]) -> dict[str, int]:
    statuses = ["InProgress" if one.is_open else one.status for one in trials]
    return {
        "Completed": statuses.count("Completed"),
        "InProgress": statuses.count("InProgress"),
        "RetryableError": 0,
        "NonRetryableError": statuses.count("Failed"),
        "Stopped": statuses.count("Stopped"),
    }


def objective_counters(trials: Iterable[Trial]) -> dict[str, int]:
    found = [one.objective_status for one in trials]
    return {name: found.count(name) for name in ("Succeeded", "Pending", "Failed")}


def best_trial(trials: Iterable[Trial], objectives: Sequence[Objective]) -> Trial | None:
    """The best by the first definition's objective, among the definitions that share it."""
    shared = objectives[0]
    found = [one for one in trials if one.counts and objectives[one.definition] == shared]
    return min(found, key=lambda one: shared.cost(one.objective or 0.0), default=None)


def not_improving(trials: Iterable[Trial], objective: Objective) -> int:
    """How many of the latest trials did not better the best before them by 1 %."""
    best: float | None = None
    count = 0
    done = sorted((one for one in trials if one.counts), key=lambda one: one.ended)
    for trial in done:
        assert trial.objective is not None
        cost = objective.cost(trial.objective)
        if best is None or best - cost >= 0.01 * abs(best):
            count = 0
        else:
            count += 1
        best = cost if best is None else min(best, cost)
    return count
