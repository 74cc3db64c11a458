"""AutoGluon-Tabular: an ensemble of many kinds of models, as JumpStart's script trains it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.workloads.algorithms.algorithm import Algorithm, entries
from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.hyperparameters import Interval
from clary.workloads.algorithms.tabular.declaration import (
    CHANNELS,
    Defaulted,
    choice,
    integer,
    metric,
    switch,
)

METRICS: dict[str, tuple[str, ...]] = {
    "regression": (
        "root_mean_squared_error",
        "mean_squared_error",
        "mean_absolute_error",
        "median_absolute_error",
        "mean_absolute_percentage_error",
        "r2",
    ),
    "classification": (
        "accuracy",
        "balanced_accuracy",
        "mcc",
        "f1",
        "f1_macro",
        "f1_micro",
        "f1_weighted",
        "roc_auc",
        "roc_auc_ovo_macro",
        "average_precision",
        "precision",
        "precision_macro",
        "precision_micro",
        "precision_weighted",
        "recall",
        "recall_macro",
        "recall_micro",
        "recall_weighted",
        "log_loss",
        "quadratic_kappa",
    ),
}
PRESETS = (
    "best_quality",
    "high_quality",
    "good_quality",
    "medium_quality",
    "optimize_for_deployment",
    "interpretable",
)


def _two_folds_or_none(values: Mapping[str, Any]) -> None:
    if values.get("num_bag_folds") == 1:
        raise UserError("Hyperparameter num_bag_folds: value 1 not in 0, 2 to 10")


HYPERPARAMETERS = Defaulted(
    declared=(
        choice("eval_metric", "auto", *METRICS["regression"], *METRICS["classification"]),
        choice("presets", *PRESETS),
        switch("auto_stack"),
        integer("num_bag_folds", Interval(0, 10)),
        integer("num_bag_sets", Interval(1, 20)),
        integer("num_stack_levels", Interval(0, 3)),
        switch("refit_full"),
        switch("set_best_to_refit_full"),
        switch("save_space"),
        integer("verbosity", Interval(0, 4)),
    ),
    rules=(_two_folds_or_none,),
    defaults={
        "eval_metric": "auto",
        "presets": "medium_quality",
        "auto_stack": "false",
        "num_bag_folds": 0,
        "num_bag_sets": 1,
        "num_stack_levels": 0,
        "refit_full": "false",
        "set_best_to_refit_full": "false",
        "save_space": "false",
        "verbosity": 2,
    },
)


train, handler = entries(__name__, "HYPERPARAMETERS")


ALGORITHM = Algorithm(
    name="autogluon-tabular",
    hyperparameters=HYPERPARAMETERS,
    channels=CHANNELS,
    metrics=(metric("validation:score", r"validation score: (\S+)", maximize=True),),
    train=train,
    serve=handler,
)
