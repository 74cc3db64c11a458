"""The picture that `clary tune` draws of a search."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from clary.cli.tune import PLOT_COLUMNS_MAX, picture, plot

START = datetime(2026, 1, 1, tzinfo=UTC)


def trial(number: int, value: float | None, status: str = "Completed") -> dict[str, Any]:
    shown: dict[str, Any] = {
        "TrainingJobName": f"t-{number:03d}-00000000",
        "TrainingJobStatus": status,
        "CreationTime": START + timedelta(seconds=number),
        "TrainingStartTime": START + timedelta(seconds=number),
        "TunedHyperParameters": {"rate": "0.123456789", "kind": '"gini"', "depth": "7"},
    }
    if status != "InProgress":
        shown["TrainingEndTime"] = START + timedelta(seconds=number + 2)
    if value is not None:
        metric = {"MetricName": "loss", "Value": value}
        shown["FinalHyperParameterTuningJobObjectiveMetric"] = metric
    return shown


def job(trials: list[dict[str, Any]], **members: Any) -> dict[str, Any]:
    best = min(
        (one for one in trials if "FinalHyperParameterTuningJobObjectiveMetric" in one),
        key=lambda one: one["FinalHyperParameterTuningJobObjectiveMetric"]["Value"],
        default=None,
    )
    shown: dict[str, Any] = {
        "HyperParameterTuningJobName": "t",
        "HyperParameterTuningJobStatus": "InProgress",
        "HyperParameterTuningJobConfig": {
            "Strategy": "Bayesian",
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 9, "MaxParallelTrainingJobs": 2},
        },
        "TrainingJobStatusCounters": {
            "Completed": sum(one["TrainingJobStatus"] == "Completed" for one in trials),
            "InProgress": sum(one["TrainingJobStatus"] == "InProgress" for one in trials),
            "NonRetryableError": 0,
            "RetryableError": 0,
            "Stopped": 0,
        },
        **members,
    }
    if best is not None:
        metric = best["FinalHyperParameterTuningJobObjectiveMetric"]
        told = {**metric, "Type": "Minimize"}
        shown["BestTrainingJob"] = {**best, "FinalHyperParameterTuningJobObjectiveMetric": told}
    return shown


def test_the_picture_names_the_best_and_fits_the_terminal():
    trials = [trial(1, 3.0), trial(2, 1.0), trial(3, 2.0), trial(4, None, "InProgress")]
    lines = picture(job(trials), trials, 80, 15)
    assert lines[0] == "t  InProgress  Bayesian  3/9 trials ended, 1 running, 0 failed"
    assert lines[1].startswith(
        'best loss 1 (minimize) by t-002-00000000: depth=7 kind="gini" rate=0.1'
    )
    assert len(lines) == 15 and all(len(line) < 80 for line in lines)
    # The latest trials come first, and the oldest had no place.
    assert [line[:5] for line in lines[-3:]] == ["t-004", "t-003", "t-002"]


def test_the_plot_marks_each_new_best():
    drawn = plot([3.0, 1.0, 2.0], 80, maximize=False)
    assert drawn[0] == "         3 |*  "
    assert drawn[-1] == "         1 | *-"
    assert sum(line.count("o") for line in drawn) == 1
    assert plot([3.0, 1.0, 4.0], 80, maximize=True)[0] == "         4 |  *"
    assert plot([], 80, maximize=True) == []
    assert len(plot([1.0] * 500, 200, maximize=True)[0]) == 12 + PLOT_COLUMNS_MAX


def test_a_search_without_a_value_yet_has_no_plot_and_a_failed_one_says_why():
    trials = [trial(1, None, "Failed")]
    failed = job(trials, HyperParameterTuningJobStatus="Failed", FailureReason="all failed")
    lines = picture(failed, trials, 100, None)
    assert lines[1] == "Failed: all failed"
    assert not any("|" in line for line in lines)
