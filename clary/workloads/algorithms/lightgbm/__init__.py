"""LightGBM: gradient boosted trees, as JumpStart's script trains and serves them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.workloads.algorithms.algorithm import Algorithm, entries
from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.hyperparameters import Interval
from clary.workloads.algorithms.tabular.declaration import (
    ANY,
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
    switch,
)

METRICS: dict[str, tuple[str, ...]] = {
    "regression": ("rmse", "l1", "l2", "huber", "fair"),
    "classification": (
        "binary_logloss",
        "binary_error",
        "auc",
        "average_precision",
        "multi_logloss",
        "multi_error",
        "auc_mu",
        "cross_entropy",
    ),
}
MAXIMIZED = ("auc", "average_precision", "auc_mu")


def _one_way_to_balance(values: Mapping[str, Any]) -> None:
    if values.get("is_unbalance") == "true" and values.get("scale_pos_weight", 1.0) != 1.0:
        raise UserError("Set is_unbalance or scale_pos_weight, not both.")


HYPERPARAMETERS = Defaulted(
    declared=(
        integer("num_boost_round", AT_LEAST_ONE),
        integer("early_stopping_rounds", AT_LEAST_ZERO),
        choice("metric", "auto", *METRICS["regression"], *METRICS["classification"]),
        number("learning_rate", INSIDE_ONE, tunable=Interval(0.001, 0.01)),
        integer("num_leaves", Interval(1, 131072, low_open=True), tunable=Interval(10, 100)),
        number("feature_fraction", SHARE, tunable=Interval(0.1, 1.0)),
        number("bagging_fraction", SHARE, tunable=Interval(0.1, 1.0)),
        integer("bagging_freq", AT_LEAST_ZERO, tunable=Interval(0, 10)),
        integer("max_depth", ANY, tunable=Interval(15, 100)),
        integer("min_data_in_leaf", AT_LEAST_ZERO, tunable=Interval(10, 200)),
        number("max_delta_step", ANY),
        number("lambda_l1", AT_LEAST_ZERO),
        number("lambda_l2", AT_LEAST_ZERO),
        choice("boosting", "gbdt", "rf", "dart", "goss"),
        number("min_gain_to_split", AT_LEAST_ZERO),
        number("scale_pos_weight", POSITIVE),
        choice("tree_learner", "serial", "feature", "data", "voting"),
        number("feature_fraction_bynode", SHARE),
        switch("is_unbalance"),
        integer("max_bin", Interval(1, low_open=True)),
        number("tweedie_variance_power", Interval(1, 2, high_open=True)),
        integer("num_threads", AT_LEAST_ZERO),
        integer("verbosity", ANY),
    ),
    rules=(_one_way_to_balance,),
    defaults={
        "num_boost_round": 100,
        "early_stopping_rounds": 10,
        "metric": "auto",
        "learning_rate": 0.1,
        "num_leaves": 64,
        "feature_fraction": 0.9,
        "bagging_fraction": 0.9,
        "bagging_freq": 1,
        "max_depth": 6,
        "min_data_in_leaf": 3,
        "max_delta_step": 0.0,
        "lambda_l1": 0.0,
        "lambda_l2": 0.0,
        "boosting": "gbdt",
        "min_gain_to_split": 0.0,
        "scale_pos_weight": 1.0,
        "tree_learner": "serial",
        "feature_fraction_bynode": 1.0,
        "is_unbalance": "false",
        "max_bin": 255,
        "tweedie_variance_power": 1.5,
        "num_threads": 0,
        "verbosity": 1,
    },
    without_effect={
        "tweedie_variance_power": "it belongs to the Tweedie objective, which none of the metrics "
        "selects.",
    },
)


train, handler = entries(__name__, "HYPERPARAMETERS")


ALGORITHM = Algorithm(
    name="lightgbm",
    hyperparameters=HYPERPARAMETERS,
    channels=CHANNELS,
    metrics=tuple(
        metric(name, rf"\b{name}: ([0-9\.]+)", maximize=name in MAXIMIZED)
        for names in METRICS.values()
        for name in names
    ),
    train=train,
    serve=handler,
)
