"""CatBoost: boosted symmetric trees, as JumpStart's script trains and serves them."""

from __future__ import annotations

from clary.workloads.algorithms.algorithm import Algorithm, entries
from clary.workloads.algorithms.hyperparameters import Hyperparameter, Interval
from clary.workloads.algorithms.tabular.declaration import (
    AT_LEAST_ONE,
    AT_LEAST_ZERO,
    CHANNELS,
    INSIDE_ONE,
    POSITIVE,
    SHARE,
    Defaulted,
    choice,
    integer,
    metric,
    number,
)

METRICS: dict[str, tuple[str, ...]] = {
    "regression": ("RMSE", "MAE", "MedianAbsoluteError", "R2"),
    "classification": (
        "Logloss",
        "Precision",
        "Recall",
        "F1",
        "AUC",
        "MultiClass",
        "Accuracy",
        "BalancedAccuracy",
    ),
}
MINIMIZED = ("RMSE", "MAE", "MedianAbsoluteError", "Logloss", "MultiClass")
BINS_MAX = 65535


def _is_bins(word: str) -> bool:
    return word == "Auto" or (word.isascii() and word.isdigit() and 1 <= int(word) <= BINS_MAX)


HYPERPARAMETERS = Defaulted(
    declared=(
        integer("iterations", AT_LEAST_ONE),
        integer("early_stopping_rounds", AT_LEAST_ZERO),
        choice("eval_metric", "auto", *METRICS["regression"], *METRICS["classification"]),
        number("learning_rate", INSIDE_ONE, tunable=Interval(0.001, 0.01)),
        integer("depth", Interval(1, 16), tunable=Interval(4, 10)),
        number("l2_leaf_reg", AT_LEAST_ZERO, tunable=Interval(2, 10)),
        number("random_strength", AT_LEAST_ZERO, tunable=Interval(0, 10)),
        integer("max_leaves", Interval(2, 64)),
        number("rsm", SHARE),
        choice("sampling_frequency", "PerTreeLevel", "PerTree"),
        integer("min_data_in_leaf", AT_LEAST_ONE),
        number("bagging_temperature", AT_LEAST_ZERO),
        choice("boosting_type", "Auto", "Ordered", "Plain"),
        number("scale_pos_weight", POSITIVE),
        Hyperparameter(
            "max_bin", "categorical", choices=("Auto", f"1 to {BINS_MAX}"), accepts=_is_bins
        ),
        choice("grow_policy", "SymmetricTree", "Depthwise", "Lossguide"),
        integer("random_seed", AT_LEAST_ZERO),
        integer("thread_count", Interval(-1)),
        integer("verbose", AT_LEAST_ZERO),
    ),
    defaults={
        "iterations": 500,
        "early_stopping_rounds": 5,
        "eval_metric": "auto",
        "learning_rate": 0.009,
        "depth": 6,
        "l2_leaf_reg": 3.0,
        "random_strength": 1.0,
        "max_leaves": 31,
        "rsm": 1.0,
        "sampling_frequency": "PerTreeLevel",
        "min_data_in_leaf": 1,
        "bagging_temperature": 1.0,
        "boosting_type": "Auto",
        "scale_pos_weight": 1.0,
        "max_bin": "Auto",
        "grow_policy": "SymmetricTree",
        "random_seed": 1,
        "thread_count": -1,
        "verbose": 1,
    },
)


train, handler = entries(__name__, "HYPERPARAMETERS")


ALGORITHM = Algorithm(
    name="catboost",
    hyperparameters=HYPERPARAMETERS,
    channels=CHANNELS,
    metrics=tuple(
        metric(name, rf"\b{name}: bestTest = (\S+)", maximize=name not in MINIMIZED)
        for names in METRICS.values()
        for name in names
    ),
    train=train,
    serve=handler,
)
