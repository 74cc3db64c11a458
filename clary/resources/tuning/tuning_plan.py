"""The plan of a tuning job: what to try, when to stop a trial, and when the search is over. Pure.

settle what ended ─▶ is it over? ─yes─▶ stop what runs, then Completed | Failed | Stopped
                         │no
                         ▼
      stop trials that have no hope ─▶ suggest, write down, launch ─▶ wait
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clary.reconcile.decisions import Become, Decision, Forget, Halt, Launch, Prepare, Wait
from clary.reconcile.observations import Absent, Exited, Observation, Running
from clary.reconcile.seen import Seen
from clary.resources.tuning import early_stopping
from clary.resources.tuning.completion import Finish, finish_of
from clary.resources.tuning.definitions import definitions_of
from clary.resources.tuning.search_space import Space
from clary.resources.tuning.suggestions import (
    Evaluated,
    grid_values,
    question,
    spread_values,
)
from clary.resources.tuning.trials import Objective, Trial, followed, kept, settled, trials_of
from clary.store.rows import Row

WATCHED_SECONDS = 1.0  # between looks at trials that may be stopped early
RUNNING_SECONDS = 5.0
ADVISED_SECONDS = 2.0
# Asked while the first trials run, so that the adviser has started when it is needed.
WARM_UP: dict[str, Any] = {"dimensions": [], "points": [], "values": [], "pending": [], "seed": 0}


@dataclass(frozen=True, slots=True)
class Tuning:
    """A tuning job's row, read once: what it searches and what it has tried."""

    row: Row
    strategy: str
    spaces: Sequence[Space]
    objectives: Sequence[Objective]
    trials: list[Trial]
    seed: int

    @staticmethod
    def of(row: Row) -> Tuning:
        config = row.document["HyperParameterTuningJobConfig"]
        return Tuning(
            row=row,
            strategy=config["Strategy"],
            spaces=[Space.of(one) for one in row.state["ranges"]],
            objectives=[Objective.of(one.objective) for one in definitions_of(row.document)],
            trials=trials_of(row),
            seed=row.state["seed"],
        )

    @property
    def limits(self) -> Mapping[str, Any]:
        return self.row.document["HyperParameterTuningJobConfig"]["ResourceLimits"]

    @property
    def rungs(self) -> list[list[int]]:
        return self.row.state.get("rungs") or []

    @property
    def stops_early(self) -> bool:
        config = self.row.document["HyperParameterTuningJobConfig"]
        return bool(self.rungs) or config.get("TrainingJobEarlyStoppingType") == "Auto"

    @property
    def turn(self) -> int:
        """The definition whose turn it is: each searches for itself, and they share the budget."""
        if self.strategy == "Grid":
            for number, space in enumerate(self.spaces):
                if len(self.tried(number)) < space.grid_size():
                    return number
        return len(self.trials) % len(self.spaces)

    def tried(self, definition: int) -> list[Trial]:
        return [one for one in self.trials if one.definition == definition]

    def evaluated(self, definition: int) -> list[Evaluated]:
        """What is known of one definition's space: of parents, of trials that ended, and which still run."""
        space, objective = self.spaces[definition], self.objectives[definition]
        imported = self.row.state.get("imported") or []
        known = [(one["values"], one["value"], False) for one in imported]
        known += [(one.values, one.objective, one.is_open) for one in self.tried(definition)]
        found: list[Evaluated] = []
        for values, value, is_open in known:
            point = space.point(values)
            if point is not None and (is_open or value is not None):
                cost = None if is_open or value is None else objective.cost(value)
                found.append(Evaluated(tuple(point), cost))
        return found


def plan_tuning(row: Row, seen: Seen) -> Sequence[Decision]:
    if row.status not in ("InProgress", "Stopping"):
        left = tuple(seen.hosts)
        return [Forget(left)] if left else []
    tuning = Tuning.of(row)
    tuning, gone = _settle(tuning, seen)
    left = [Forget(gone)] if gone else []
    finish = _finish(tuning, seen)
    if finish is not None:
        return [*left, *_end(tuning, seen, finish)]
    halted, tuning = _halted(tuning)
    begins = tuning.strategy == "Bayesian" and not tuning.trials
    fresh, tuning, asks = _suggested(tuning, seen)
    absent = tuple(
        key for key, one in seen.hosts.items() if isinstance(one, Absent) and key not in gone
    )
    return [
        *left,
        Become(state=kept(tuning.trials)),
        *([Halt(halted)] if halted else []),
        *([Launch((*absent, *fresh))] if absent or fresh else []),
        *([Prepare()] if asks or begins else []),
        Wait(_pause(tuning, asks=asks)),
    ]


def question_of(row: Row) -> dict[str, Any] | None:
    """What the adviser of a Bayesian search is asked: the next point of the definition whose turn it is."""
    if row.document["HyperParameterTuningJobConfig"]["Strategy"] != "Bayesian":
        return None
    if row.status != "InProgress":
        return None
    tuning = Tuning.of(row)
    asked = question(tuning.spaces[tuning.turn], tuning.evaluated(tuning.turn), tuning.seed)
    return asked or WARM_UP


def _settle(tuning: Tuning, seen: Seen) -> tuple[Tuning, tuple[str, ...]]:
    """Write what was observed into the trials; the keys of those that need no more looking at."""
    ends = tuning.row.status == "Stopping" or tuning.row.state.get("finish")
    trials: list[Trial] = []
    gone: list[str] = []
    for trial in tuning.trials:
        one: Observation | None = seen.hosts.get(trial.name)
        if isinstance(one, Exited):
            gone.append(trial.name)
            trial = settled(trial, one, seen.now)
        elif isinstance(one, Running):
            trial = followed(trial, one)
        elif isinstance(one, Absent) and trial.made:
            # Somebody deleted the training job after it ended, before it was looked at.
            gone.append(trial.name)
            trial = replace(trial, status="Stopped", ended=seen.now)
        elif isinstance(one, Absent) and ends:
            gone.append(trial.name)
            continue  # it was written down and never made: there is nothing to tell of it
        trials.append(trial)
    return replace(tuning, trials=trials), tuple(gone)


def _finish(tuning: Tuning, seen: Seen) -> Finish | None:
    row = tuning.row
    if row.status == "Stopping":
        return Finish("Stopped")
    if row.state.get("finish"):
        return Finish(**row.state["finish"])
    exhausted = _budget(tuning) <= 0 or (
        tuning.strategy == "Grid" and _next_grid(tuning, tuning.turn) is None
    )
    return finish_of(row, tuning.trials, tuning.objectives, exhausted=exhausted, now=seen.now)


def _end(tuning: Tuning, seen: Seen, finish: Finish) -> list[Decision]:
    """Stop what still runs; once nothing does, the job has ended."""
    running = [one for one in tuning.trials if one.is_open]
    if not running:
        fields: dict[str, Any] = {"HyperParameterTuningEndTime": seen.now}
        if finish.reason:
            fields["FailureReason"] = finish.reason
        if finish.converged:
            fields["ConvergenceDetectedTime"] = seen.now
        return [Become(finish.status, fields, kept(tuning.trials)), Wait(0.0)]
    asked = tuple(one.name for one in running if one.status != "Stopping")
    trials = [
        replace(one, halted=one.halted or "limit") if one.is_open else one for one in tuning.trials
    ]
    state = {**kept(trials), "finish": finish.kept()}
    return [
        Become(state=state),
        *([Halt(asked)] if asked else []),
        Wait(WATCHED_SECONDS),
    ]


def _halted(tuning: Tuning) -> tuple[tuple[str, ...], Tuning]:
    """Running trials that have no hope: those to stop, and the trials with that written down."""
    if not tuning.stops_early:
        return (), tuning
    trials = list(tuning.trials)
    names: list[str] = []
    for number, trial in enumerate(trials):
        if trial.status == "InProgress" and (trial.halted or _is_hopeless(tuning, number)):
            names.append(trial.name)
            trials[number] = replace(trial, halted="early")
    return tuple(names), replace(tuning, trials=trials)


def _is_hopeless(tuning: Tuning, number: int) -> bool:
    trial = tuning.trials[number]
    objective = tuning.objectives[trial.definition]
    if tuning.rungs:
        return early_stopping.misses_rung(number, tuning.trials, tuning.rungs, objective)
    return early_stopping.below_median(trial, tuning.tried(trial.definition), objective)


def _suggested(tuning: Tuning, seen: Seen) -> tuple[tuple[str, ...], Tuning, bool]:
    """New trials by name, the trials with them, and whether the adviser is to be asked for the next."""
    names: list[str] = []
    answer = seen.preparation
    while _room(tuning) > 0:
        definition = tuning.turn
        values = _next_values(tuning, definition, answer.answer, answer.status)
        if values is None:
            return tuple(names), tuning, tuning.strategy == "Bayesian"
        trial = Trial(_child_name(tuning), definition, values)
        names.append(trial.name)
        tuning = replace(tuning, trials=[*tuning.trials, trial])
        # An answer is to one question; the next trial asks another.
        answer = replace(answer, status="absent", answer=None)
    return tuple(names), tuning, False


def _next_values(
    tuning: Tuning, definition: int, answer: Any, status: str
) -> Mapping[str, str] | None:
    """None while the adviser has not answered, or when the grid is through."""
    space = tuning.spaces[definition]
    if tuning.strategy == "Grid":
        return _next_grid(tuning, definition)
    tried = [one.values for one in tuning.tried(definition)]
    starts: list[Mapping[str, str]] = (tuning.row.state.get("starts") or [])[len(tuning.trials) :]
    if starts and space.point(starts[0]) is not None:
        return {one.name: starts[0][one.name] for one in space.parameters}
    if tuning.strategy == "Bayesian" and status != "failed":
        asked = question(space, tuning.evaluated(definition), tuning.seed)
        if asked is not None:
            if status != "ready" or answer is None:
                return None
            if answer.get("point"):
                return space.values(answer["point"])
    return spread_values(space, len(tried), tuning.seed + definition, tried)


def _next_grid(tuning: Tuning, definition: int) -> Mapping[str, str] | None:
    return grid_values(tuning.spaces[definition], len(tuning.tried(definition)))


def _room(tuning: Tuning) -> int:
    running = sum(one.is_open for one in tuning.trials)
    return min(tuning.limits["MaxParallelTrainingJobs"] - running, _budget(tuning))


def _budget(tuning: Tuning) -> int:
    return tuning.row.state["trials_max"] - len(tuning.trials)


def _child_name(tuning: Tuning) -> str:
    """`<tuning job>-<number>-<8 hexadecimals>`; the same each time for the same trial of the same job."""
    row, number = tuning.row, len(tuning.trials) + 1
    digest = hashlib.sha256(f"{row.arn}/{row.created}/{number}".encode()).hexdigest()[:8]
    return f"{row.name}-{number:03d}-{digest}"


def _pause(tuning: Tuning, *, asks: bool) -> float:
    if tuning.stops_early:
        return WATCHED_SECONDS
    return ADVISED_SECONDS if asks else RUNNING_SECONDS
