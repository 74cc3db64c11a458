"""Linear learner: linear models of several strengths at once, as `linear-learner` trains them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.workloads.algorithms.algorithm import Algorithm, Metric, entries
from clary.workloads.algorithms.first_party.declaration import channels
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT, quality_metric
from clary.workloads.algorithms.first_party.schema import (
    AT_LEAST_ZERO,
    AUTO,
    BELOW_ONE,
    INSIDE_ONE,
    POSITIVE,
    Schema,
    boolean,
    choice,
    integer,
    number,
)
from clary.workloads.algorithms.hyperparameters import Interval

LOSSES = {
    "regressor": (
        "squared_loss",
        "absolute_loss",
        "eps_insensitive_squared_loss",
        "eps_insensitive_absolute_loss",
        "quantile_loss",
        "huber_loss",
    ),
    "binary_classifier": ("logistic", "hinge_loss"),
    "multiclass_classifier": ("softmax_loss",),
}
CRITERIA = (
    "accuracy",
    "f_beta",
    "f1",
    "precision_at_target_recall",
    "recall_at_target_precision",
    "loss_function",
    "cross_entropy_loss",
)
AUTO_WORD = (AUTO,)


def _classes_are_given(values: Mapping[str, Any]) -> None:
    if values["predictor_type"] == "multiclass_classifier" and "num_classes" not in values:
        raise ClientError(
            "'num_classes' is a required property when predictor_type is multiclass_classifier"
        )


def _loss_fits(values: Mapping[str, Any]) -> None:
    allowed = LOSSES[values["predictor_type"]]
    if values["loss"] not in (AUTO, *allowed):
        raise ClientError(
            f"loss {values['loss']} is not supported for predictor_type "
            f"{values['predictor_type']}; it is one of {', '.join((AUTO, *allowed))}."
        )


_STOCHASTIC = "the models are fitted by Newton's method on all of the data, without random steps."

SCHEMA = Schema(
    declared=(
        choice("predictor_type", *LOSSES, required=True),
        integer("num_classes", 3, 1_000_000),
        integer("accuracy_top_k", 1),
        boolean("balance_multiclass_weights"),
        number("beta_1", BELOW_ONE, words=AUTO_WORD),
        number("beta_2", BELOW_ONE, words=AUTO_WORD),
        number("bias_lr_mult", POSITIVE, words=AUTO_WORD),
        number("bias_wd_mult", AT_LEAST_ZERO, words=AUTO_WORD),
        choice("binary_classifier_model_selection_criteria", *CRITERIA),
        integer("early_stopping_patience", 1),
        number("early_stopping_tolerance", AT_LEAST_ZERO),
        integer("epochs", 1),
        number("f_beta", POSITIVE),
        integer("feature_dim", 1, auto=True),
        number("huber_delta", AT_LEAST_ZERO),
        number("init_bias"),
        choice("init_method", "uniform", "normal"),
        number("init_scale", POSITIVE),
        number("init_sigma", POSITIVE),
        number("l1", AT_LEAST_ZERO, words=AUTO_WORD, tunable=Interval(1e-7, 1)),
        number("learning_rate", POSITIVE, words=AUTO_WORD, tunable=Interval(1e-5, 1)),
        choice("loss", AUTO, *(name for names in LOSSES.values() for name in names)),
        number("loss_insensitivity", POSITIVE),
        number("lr_scheduler_factor", INSIDE_ONE, words=AUTO_WORD),
        number("lr_scheduler_minimum_lr", POSITIVE, words=AUTO_WORD),
        integer("lr_scheduler_step", 1, auto=True),
        number("margin", AT_LEAST_ZERO),
        integer("mini_batch_size", 1, tunable=Interval(100, 5000)),
        number("momentum", BELOW_ONE, words=AUTO_WORD),
        boolean("normalize_data", auto=True),
        boolean("normalize_label", auto=True),
        integer("num_calibration_samples", 1, auto=True),
        integer("num_models", 1, auto=True),
        integer("num_point_for_scaler", 1),
        choice("optimizer", AUTO, "adam", "sgd", "rmsprop"),
        number(
            "positive_example_weight_mult",
            POSITIVE,
            words=("auto", "balanced"),
            tunable=Interval(1e-5, 1e5),
        ),
        number("quantile", INSIDE_ONE),
        number("target_precision", INSIDE_ONE),
        number("target_recall", INSIDE_ONE),
        boolean("unbias_data", auto=True),
        boolean("unbias_label", auto=True),
        boolean("use_bias", tunable=Interval()),
        boolean("use_lr_scheduler"),
        number("wd", AT_LEAST_ZERO, words=AUTO_WORD, tunable=Interval(1e-7, 1)),
    ),
    rules=(_classes_are_given, _loss_fits),
    defaults={
        "accuracy_top_k": 3,
        "balance_multiclass_weights": False,
        **dict.fromkeys(
            (
                *("beta_1", "beta_2", "bias_lr_mult", "bias_wd_mult", "feature_dim", "l1"),
                *("learning_rate", "loss", "lr_scheduler_factor", "lr_scheduler_minimum_lr"),
                *("lr_scheduler_step", "momentum", "normalize_label", "num_calibration_samples"),
                *("num_models", "optimizer", "unbias_data", "unbias_label", "wd"),
            ),
            AUTO,
        ),
        "binary_classifier_model_selection_criteria": "accuracy",
        "early_stopping_patience": 3,
        "early_stopping_tolerance": 0.001,
        "epochs": 15,
        "f_beta": 1.0,
        "huber_delta": 1.0,
        "init_bias": 0.0,
        "init_method": "uniform",
        "init_scale": 0.07,
        "init_sigma": 0.01,
        "loss_insensitivity": 0.01,
        "margin": 1.0,
        "mini_batch_size": 1000,
        "normalize_data": True,
        "num_point_for_scaler": 10000,
        "positive_example_weight_mult": 1.0,
        "quantile": 0.5,
        "target_precision": 0.8,
        "target_recall": 0.8,
        "use_bias": True,
        "use_lr_scheduler": True,
    },
    without_effect=dict.fromkeys(
        (
            *("beta_1", "beta_2", "bias_lr_mult", "early_stopping_patience"),
            *("early_stopping_tolerance", "init_bias", "init_method", "init_scale", "init_sigma"),
            *("learning_rate", "lr_scheduler_factor", "lr_scheduler_minimum_lr"),
            *("lr_scheduler_step", "mini_batch_size", "momentum", "optimizer"),
            "use_lr_scheduler",
        ),
        _STOCHASTIC,
    ),
)


train, handler = entries(__name__, "ALGORITHM")


# The numbers of the validation and test channels: name, pattern in the log, larger is better.
_QUALITIES = (
    ("objective_loss", r"\S+_objective", False),
    ("binary_classification_accuracy", "", True),
    ("binary_f_beta", r"binary_f_\S+", True),
    ("precision", "", True),
    ("recall", "", True),
    ("roc_auc_score", "", True),
    ("multiclass_accuracy", "", True),
    ("multiclass_top_k_accuracy", r"multiclass_top_k_accuracy_\S+", True),
    ("dcg", "", True),
    ("macro_precision", "", True),
    ("macro_recall", "", True),
    ("macro_f_beta", r"macro_f_\S+", True),
    ("mse", "", False),
    ("rmse", "", False),
    ("absolute_loss", "", False),
)


def _metrics() -> tuple[Metric, ...]:
    found = [PROGRESS, THROUGHPUT]
    for side in ("train", "validation"):
        objective = rf"#quality_metric: host=\S+, epoch=\S+, {side} \S+_objective <loss>=(\S+)"
        found.append(Metric(f"{side}:objective_loss", objective, maximize=False))
        found.append(
            quality_metric(side, "objective_loss:final", maximize=False, log_name=r"\S+_objective")
        )
    for side in ("validation", "test"):
        found += [
            quality_metric(side, name, maximize=maximize, log_name=pattern)
            for name, pattern, maximize in _QUALITIES
            if (side, name) != ("validation", "objective_loss")
        ]
    return tuple(found)


ALGORITHM = Algorithm(
    name="linear-learner",
    hyperparameters=SCHEMA,
    channels=channels("validation", "test"),
    metrics=_metrics(),
    train=train,
    serve=handler,
)
