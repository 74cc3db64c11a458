"""Warm start: what a new tuning job takes over from finished ones.

IdenticalDataAndAlgorithm: the parents' trials count as this job's own observations. TransferLearning: the data or the
algorithm changed, so their values mean nothing here, but their best hyperparameters are tried first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clary.engine.call import Call
from clary.engine.naming import arn_of
from clary.model.errors import ValidationException
from clary.resources.tuning.definitions import Definition, definitions_of
from clary.resources.tuning.summaries import best_summary
from clary.resources.tuning.trials import Objective, Trial, best_trial, trials_of
from clary.store.rows import Row

KIND = "HyperParameterTuningJob"
TRIALS_MAX = 500  # of all parents together
STARTS_MAX = 5
ENDED = ("Completed", "Failed", "Stopped")


def inherited(call: Call, definition: Definition) -> dict[str, Any]:
    """The members of a new row's state: `imported` trials, `starts` to try first, and the parents' best."""
    config = call.input.get("WarmStartConfig")
    if not config:
        return {}
    strategy = call.input["HyperParameterTuningJobConfig"]["Strategy"]
    if strategy not in ("Bayesian", "Random"):
        raise ValidationException(
            f"WarmStartConfig is supported by the strategies Bayesian and Random, not {strategy}."
        )
    identical = config["WarmStartType"] == "IdenticalDataAndAlgorithm"
    parents = [_parent(call, one) for one in config["ParentHyperParameterTuningJobs"]]
    trials: list[tuple[Trial, Mapping[str, str]]] = []
    for parent in parents:
        trials += _trials(parent, definition, identical=identical)
    if len(trials) > TRIALS_MAX:
        raise ValidationException(
            f"The parent tuning jobs have {len(trials)} training jobs together, and at most "
            f"{TRIALS_MAX} can be taken over."
        )
    if not any(trial.counts for trial, _ in trials):
        raise ValidationException(
            "None of the training jobs of the parent tuning jobs has a value of the objective metric."
        )
    objective = Objective.of(definition.objective)
    known = [
        {"values": dict(values), "value": trial.objective}
        for trial, values in trials
        if trial.counts
    ]
    if not identical:
        ordered = sorted(known, key=lambda one: objective.cost(one["value"]))
        return {"starts": [one["values"] for one in ordered[:STARTS_MAX]]}
    return {"imported": known, "parents_best": _parents_best(parents)}


def _parent(call: Call, given: Mapping[str, Any]) -> Row:
    name = given.get("HyperParameterTuningJobName") or ""
    found = call.parts.store.rows.get(KIND, name, account=call.account, region=call.region)
    if found is None:
        bound = call.parts.bound(KIND)
        raise bound.missing_error(name, arn_of(bound, call, "", name))
    if found.status not in ENDED:
        raise ValidationException(
            f"The parent tuning job {name} is in status {found.status}; a tuning job can start warm "
            "only from jobs that have ended."
        )
    return found


def _trials(
    parent: Row, definition: Definition, *, identical: bool
) -> list[tuple[Trial, Mapping[str, str]]]:
    """A parent's trials with all their hyperparameters; raise ValidationException where it does not fit."""
    theirs = definitions_of(parent.document)
    if len(theirs) > 1:
        raise ValidationException(
            f"The parent tuning job {parent.name} has several training job definitions; a tuning "
            "job can start warm only from jobs with one."
        )
    if Objective.of(theirs[0].objective) != Objective.of(definition.objective):
        raise ValidationException(
            f"The parent tuning job {parent.name} has the objective "
            f"{theirs[0].objective['Type']} {theirs[0].objective['MetricName']}; it must be that of "
            "this tuning job."
        )
    if identical and theirs[0].image != definition.image:
        raise ValidationException(
            f"The parent tuning job {parent.name} has another training image; "
            "IdenticalDataAndAlgorithm requires the same. Use TransferLearning."
        )
    if theirs[0].hyperparameter_count != definition.hyperparameter_count:
        raise ValidationException(
            f"The parent tuning job {parent.name} has {theirs[0].hyperparameter_count} "
            f"hyperparameters, static and tunable ones together, and this tuning job has "
            f"{definition.hyperparameter_count}; a warm start requires the same number."
        )
    static = theirs[0].static
    return [(trial, {**static, **trial.values}) for trial in trials_of(parent)]


def _parents_best(parents: Sequence[Row]) -> dict[str, Any]:
    """The best training job of all parents and of theirs, with its objective's direction applied."""
    found: list[dict[str, Any]] = []
    objective = Objective.of(definitions_of(parents[0].document)[0].objective)
    for parent in parents:
        if parent.state.get("parents_best"):
            found.append(parent.state["parents_best"])
        best = best_trial(trials_of(parent), [objective])
        if best is not None:
            found.append({"value": best.objective, "summary": best_summary(parent, best)})
    return min(found, key=lambda one: objective.cost(one["value"]))
