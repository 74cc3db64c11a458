"""DeepAR: forecasts of many related time series, as the `forecasting-deepar` image learns and serves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clary.workloads.algorithms.algorithm import Algorithm, Metric
from clary.workloads.algorithms.channels import ChannelDeclaration
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT, quality_metric
from clary.workloads.algorithms.first_party.schema import (
    BELOW_ONE,
    POSITIVE,
    Schema,
    choice,
    integer,
    number,
    text,
)
from clary.workloads.algorithms.hyperparameters import Interval
from clary.workloads.algorithms.job import Job
from clary.workloads.serving.handlers import Handler

STUDENT_T, GAUSSIAN, BETA = "student-T", "gaussian", "beta"
NEGATIVE_BINOMIAL, DETERMINISTIC_L1 = "negative-binomial", "deterministic-L1"
QUANTILES = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
_WHOLE_NUMBERS = r"\[\s*\d+\s*(,\s*\d+\s*)*\]"


def quantiles(given: str) -> list[float]:
    """The list of `test_quantiles`; raises ClientError."""
    try:
        found = json.loads(given)
        numbers = [float(one) for one in found] if isinstance(found, list) else []
    except (ValueError, TypeError):
        numbers = []
    if not numbers or not all(0 < one < 1 for one in numbers):
        raise ClientError(
            f"'{given}' is not of type 'array' of numbers between 0 and 1\n\n"
            f"On instance['test_quantiles']:\n    '{given}'"
        )
    return numbers


def cardinality(given: str) -> list[int] | None:
    """The sizes of the categories; empty where categories are ignored, None for `auto`."""
    return None if given == "auto" else json.loads(given or "[]")


def dynamic_features(given: str) -> int | None:
    """How many there are; 0 where they are ignored, None for `auto`."""
    return None if given == "auto" else int(given or 0)


def _lists_can_be_read(values: Mapping[str, Any]) -> None:
    quantiles(values["test_quantiles"])
    if 0 in (cardinality(values["cardinality"]) or ()):
        raise ClientError("cardinality: each category has at least 1 value.")


SCHEMA = Schema(
    declared=(
        integer("context_length", 1, required=True, tunable=Interval(1, 200)),
        integer("epochs", 1, required=True, tunable=Interval(1, 1000)),
        integer("prediction_length", 1, required=True),
        text("time_freq", r"([1-9]\d{0,4})?(M|W|D|H|min)", required=True),
        text("cardinality", rf"auto||{_WHOLE_NUMBERS}"),
        number("dropout_rate", BELOW_ONE, tunable=Interval(0, 0.2)),
        integer("early_stopping_patience", 1),
        integer("embedding_dimension", 1, tunable=Interval(1, 50)),
        number("learning_rate", POSITIVE, tunable=Interval(1e-5, 1e-1)),
        choice("likelihood", GAUSSIAN, BETA, NEGATIVE_BINOMIAL, STUDENT_T, DETERMINISTIC_L1),
        integer("mini_batch_size", 1, tunable=Interval(32, 1028)),
        integer("num_cells", 1, tunable=Interval(30, 200)),
        text("num_dynamic_feat", r"auto||\d{1,4}"),
        integer("num_eval_samples", 1, 10_000),
        integer("num_layers", 1, tunable=Interval(1, 8)),
        text("test_quantiles", r"\[.*\]"),
    ),
    defaults={
        "cardinality": "auto",
        "dropout_rate": 0.1,
        "embedding_dimension": 10,
        "learning_rate": 1e-3,
        "likelihood": STUDENT_T,
        "mini_batch_size": 128,
        "num_cells": 40,
        "num_dynamic_feat": "auto",
        "num_eval_samples": 100,
        "num_layers": 2,
        "test_quantiles": json.dumps(QUANTILES),
    },
    rules=(_lists_can_be_read,),
)


def train(job: Job) -> None:
    from clary.workloads.algorithms.forecasting_deepar import training

    training.train(job, ALGORITHM)


def handler(model_dir: str | Path) -> Handler:
    """The model of a folder, ready to answer; what the model server calls in algorithm mode."""
    from clary.workloads.algorithms.forecasting_deepar import serving

    return serving.load(Path(model_dir))


FILES = (
    "application/jsonlines",
    "application/json",
    "json",
    "json.gz",
    "application/x-parquet",
    "parquet",
    "auto",
    "",
)

ALGORITHM = Algorithm(
    name="forecasting-deepar",
    hyperparameters=SCHEMA,
    channels=(
        ChannelDeclaration("train", required=True, content_types=FILES, modes=("File", "FastFile")),
        ChannelDeclaration("test", content_types=FILES, modes=("File", "FastFile")),
    ),
    metrics=(
        quality_metric("test", "RMSE", maximize=False),
        quality_metric("test", "mean_wQuantileLoss", maximize=False),
        quality_metric("train", "final_loss", maximize=False),
        Metric(
            "train:loss", r"#quality_metric: host=\S+, epoch=\d+, train loss <loss>=(\S+)", False
        ),
        PROGRESS,
        THROUGHPUT,
    ),
    train=train,
    serve=handler,
)
