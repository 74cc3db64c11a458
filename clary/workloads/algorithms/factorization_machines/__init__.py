"""Factorization machines: pairs of sparse features, as `factorization-machines` learns them."""

from __future__ import annotations

from clary.workloads.algorithms.algorithm import Algorithm, Metric, entries
from clary.workloads.algorithms.first_party.declaration import RECORDIO, channels
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT, quality_metric
from clary.workloads.algorithms.first_party.schema import (
    AT_LEAST_ZERO,
    Schema,
    choice,
    integer,
    number,
)
from clary.workloads.algorithms.hyperparameters import Hyperparameter, Interval

GROUPS = ("bias", "factors", "linear")
INITS = ("normal", "uniform", "constant")
RATES = Interval(1e-8, 512)


def _group(name: str) -> tuple[Hyperparameter, ...]:
    """The hyperparameters that the bias, the linear terms and the factors have each."""
    return (
        choice(f"{name}_init_method", *INITS, tunable=Interval()),
        number(f"{name}_init_scale", AT_LEAST_ZERO, tunable=RATES),
        number(f"{name}_init_sigma", AT_LEAST_ZERO, tunable=RATES),
        number(f"{name}_init_value", tunable=RATES),
        number(f"{name}_lr", AT_LEAST_ZERO, tunable=RATES),
        number(f"{name}_wd", AT_LEAST_ZERO, tunable=RATES),
    )


SCHEMA = Schema(
    declared=(
        integer("feature_dim", 1, required=True),
        integer("num_factors", 1, required=True),
        choice("predictor_type", "binary_classifier", "regressor", required=True),
        *(one for name in GROUPS for one in _group(name)),
        number("clip_gradient", AT_LEAST_ZERO),
        number("rescale_grad"),
        number("eps"),
        integer("epochs", 1, tunable=Interval(1, 1000)),
        integer("mini_batch_size", 1, tunable=Interval(100, 10000)),
    ),
    defaults={
        "bias_init_method": "normal",
        "bias_init_sigma": 0.01,
        "bias_lr": 0.1,
        "bias_wd": 0.01,
        "factors_init_method": "normal",
        "factors_init_sigma": 0.001,
        "factors_lr": 0.0001,
        "factors_wd": 0.00001,
        "linear_init_method": "normal",
        "linear_init_sigma": 0.01,
        "linear_lr": 0.001,
        "linear_wd": 0.001,
        "epochs": 1,
        "mini_batch_size": 1000,
    },
)


train, handler = entries(__name__, "ALGORITHM")


def _metrics() -> tuple[Metric, ...]:
    found = [PROGRESS, THROUGHPUT]
    for side in ("train", "test"):
        found += [
            quality_metric(side, "rmse", maximize=False),
            quality_metric(side, "mse", maximize=False),
            quality_metric(side, "absolute_loss", maximize=False),
            quality_metric(side, "binary_classification_accuracy", maximize=True),
            quality_metric(side, "binary_classification_cross_entropy", maximize=False),
            quality_metric(side, "binary_f_beta", maximize=True, log_name=r"binary_f_\S+"),
        ]
    return tuple(found)


ALGORITHM = Algorithm(
    name="factorization-machines",
    hyperparameters=SCHEMA,
    channels=channels("test", content_types=(RECORDIO,)),
    metrics=_metrics(),
    train=train,
    serve=handler,
)
