"""What a tuning job tells of its training jobs: counters, the best ones, and the list of all."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

import orjson

from clary.engine.call import Call
from clary.model.arns import sagemaker_arn
from clary.model.errors import ValidationException
from clary.resources.tuning.definitions import definitions_of
from clary.resources.tuning.trials import (
    Objective,
    Trial,
    best_trial,
    not_improving,
    objective_counters,
    status_counters,
    trials_of,
)
from clary.store.rows import Row

PAGE_DEFAULT = 10
_SORTS = {
    "Name": lambda one: one["TrainingJobName"],
    "CreationTime": lambda one: one["CreationTime"],
    "Status": lambda one: one["TrainingJobStatus"],
    "FinalObjectiveMetricValue": lambda one: one["FinalHyperParameterTuningJobObjectiveMetric"][
        "Value"
    ],
}


def objectives_of(row: Row) -> list[Objective]:
    return [Objective.of(one.objective) for one in definitions_of(row.document)]


def counters(row: Row) -> dict[str, int]:
    return status_counters(trials_of(row))


def counters_of_objectives(row: Row) -> dict[str, int]:
    return objective_counters(trials_of(row))


def best(row: Row) -> dict[str, Any] | None:
    found = best_trial(trials_of(row), objectives_of(row))
    return best_summary(row, found) if found is not None else None


def overall_best(row: Row) -> dict[str, Any] | None:
    """Across the parents of a warm start with identical data and algorithm."""
    parents = row.state.get("parents_best")
    if not parents:
        return None
    objectives = objectives_of(row)
    own = best_trial(trials_of(row), objectives)
    if own is None or own.objective is None:
        return parents["summary"]
    worse = objectives[0].cost(own.objective) > objectives[0].cost(parents["value"])
    return parents["summary"] if worse else best_summary(row, own)


def completion_details(row: Row) -> dict[str, Any]:
    trials = trials_of(row)
    counts = [
        not_improving([one for one in trials if one.definition == number], objective)
        for number, objective in enumerate(objectives_of(row))
    ]
    found: dict[str, Any] = {"NumberOfTrainingJobsObjectiveNotImproving": min(counts)}
    if row.document.get("ConvergenceDetectedTime"):
        found["ConvergenceDetectedTime"] = row.document["ConvergenceDetectedTime"]
    return found


def consumed(row: Row) -> dict[str, int]:
    """The time from the start of the tuning job to its end, or to what happened last."""
    end = row.document.get("HyperParameterTuningEndTime") or row.modified
    return {"RuntimeInSeconds": max(0, round(end - row.created))}


def best_summary(row: Row, trial: Trial) -> dict[str, Any]:
    """BestTrainingJob alone tells the type of the objective and the tuning job's name."""
    shown = summary(row, trial)
    metric = shown["FinalHyperParameterTuningJobObjectiveMetric"]
    shown["FinalHyperParameterTuningJobObjectiveMetric"] = {
        "Type": objectives_of(row)[trial.definition].type,
        **metric,
    }
    return {**shown, "TuningJobName": row.name}


def summary(row: Row, trial: Trial) -> dict[str, Any]:
    definition = definitions_of(row.document)[trial.definition]
    arn = trial.arn or sagemaker_arn(row.region, row.account, "training-job", trial.name)
    shown: dict[str, Any] = {
        "TrainingJobName": trial.name,
        "TrainingJobArn": arn,
        "CreationTime": trial.created,
        "TrainingJobStatus": trial.status,
        "TunedHyperParameters": dict(trial.values),
        "ObjectiveStatus": trial.objective_status,
    }
    if definition.name:
        shown["TrainingJobDefinitionName"] = definition.name
    if trial.started:
        shown["TrainingStartTime"] = trial.started
    if trial.ended and not trial.is_open:
        shown["TrainingEndTime"] = trial.ended
    if trial.failure:
        shown["FailureReason"] = trial.failure
    if trial.objective is not None:
        shown["FinalHyperParameterTuningJobObjectiveMetric"] = {
            "MetricName": definition.objective["MetricName"],
            "Value": trial.objective,
        }
    return shown


def list_training_jobs(row: Row, call: Call) -> dict[str, Any]:
    """ListTrainingJobsForHyperParameterTuningJob; jobs without a value are left out when sorting by it."""
    request = call.input
    # A trial is written down before its training job is made; until then there is nothing to list.
    shown = [summary(row, one) for one in trials_of(row) if one.created]
    status = request.get("StatusEquals")
    if status:
        shown = [one for one in shown if one["TrainingJobStatus"] == status]
    sort = request.get("SortBy") or "Name"
    if sort == "FinalObjectiveMetricValue":
        shown = [one for one in shown if "FinalHyperParameterTuningJobObjectiveMetric" in one]
    shown.sort(key=_SORTS[sort], reverse=request.get("SortOrder") == "Descending")
    digest = _digest(request)
    start = _opened(request["NextToken"], digest) if request.get("NextToken") else 0
    end = start + (request.get("MaxResults") or PAGE_DEFAULT)
    answer: dict[str, Any] = {"TrainingJobSummaries": shown[start:end]}
    if end < len(shown):
        answer["NextToken"] = base64.urlsafe_b64encode(orjson.dumps([end, digest])).decode()
    return answer


def _digest(request: dict[str, Any]) -> str:
    """A token is good only with the filters and the order it was made for."""
    kept = {name: one for name, one in request.items() if name not in ("NextToken", "MaxResults")}
    return hashlib.sha256(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


def _opened(token: str, digest: str) -> int:
    try:
        start, made_for = orjson.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError, binascii.Error) as problem:
        raise ValidationException("Invalid NextToken.") from problem
    if made_for != digest or type(start) is not int or start < 0:
        raise ValidationException(
            "Invalid NextToken: it was issued for a request with other filters or another order."
        )
    return start
