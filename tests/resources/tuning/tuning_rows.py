"""Rows of tuning jobs for the tests of their plan."""

from __future__ import annotations

from typing import Any

from clary.resources.tuning.tuning_plan import Tuning
from clary.store.rows import Row

RATE = {"Name": "rate", "MinValue": "0.001", "MaxValue": "1.0", "ScalingType": "Logarithmic"}
KINDS = {"Name": "kind", "Values": ["gini", "entropy", "log_loss"]}
RANGES = {"ContinuousParameterRanges": [RATE], "CategoricalParameterRanges": [KINDS]}


def tuning_row(
    strategy: str = "Random",
    *,
    trials: int = 6,
    parallel: int = 2,
    ranges: dict[str, Any] | None = None,
    direction: str = "Minimize",
    config: dict[str, Any] | None = None,
    state: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
) -> Row:
    """As CreateHyperParameterTuningJob leaves it."""
    ranges = ranges or RANGES
    document = {
        "HyperParameterTuningJobConfig": {
            "Strategy": strategy,
            "HyperParameterTuningJobObjective": {"Type": direction, "MetricName": "loss"},
            "ResourceLimits": {
                "MaxNumberOfTrainingJobs": trials,
                "MaxParallelTrainingJobs": parallel,
                **(limits or {}),
            },
            "ParameterRanges": ranges,
            "TrainingJobEarlyStoppingType": "Off",
            **(config or {}),
        },
        "TrainingJobDefinition": {"AlgorithmSpecification": {"TrainingImage": "i"}},
    }
    kept = {"ranges": [ranges], "metrics": [[]], "seed": 7, "trials": [], "trials_max": trials}
    return Row(
        "HyperParameterTuningJob",
        "tune",
        "arn:aws:sagemaker:us-east-1:1:hyper-parameter-tuning-job/tune",
        account="1",
        region="us-east-1",
        status="InProgress",
        document=document,
        state={**kept, **(state or {})},
        created=1_000.0,
        due=1_000.0,
    )


def names_of(row: Row) -> list[str]:
    return [one.name for one in Tuning.of(row).trials]
