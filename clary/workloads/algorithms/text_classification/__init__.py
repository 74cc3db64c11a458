"""Text classification: an encoder of a text and a layer on top, as JumpStart's script trains it."""

from __future__ import annotations

from clary.workloads.algorithms.algorithm import Algorithm, entries
from clary.workloads.algorithms.channels import ChannelDeclaration
from clary.workloads.algorithms.hyperparameters import Interval
from clary.workloads.algorithms.tabular.declaration import (
    AT_LEAST_ONE,
    AT_LEAST_ZERO,
    POSITIVE,
    ZERO_TO_ONE,
    Defaulted,
    choice,
    integer,
    metric,
    number,
    switch,
)

OPTIMIZERS = ("adamw", "adam", "sgd", "nesterov", "rmsprop", "adagrad", "adadelta")
BELOW_ONE = Interval(0, 1, high_open=True)
INSIDE = Interval(0, 1, low_open=True, high_open=True)
FILES = ("File", "FastFile")

HYPERPARAMETERS = Defaulted(
    declared=(
        integer("batch_size", AT_LEAST_ONE, tunable=Interval(4, 128)),
        number("beta_1", BELOW_ONE, tunable=Interval(1e-6, 0.999)),
        number("beta_2", BELOW_ONE, tunable=Interval(1e-6, 0.999)),
        number("dropout_rate", BELOW_ONE),
        switch("early_stopping"),
        number("early_stopping_min_delta", AT_LEAST_ZERO),
        integer("early_stopping_patience", AT_LEAST_ONE),
        integer("epochs", AT_LEAST_ONE),
        number("epsilon", POSITIVE),
        number("initial_accumulator_value", AT_LEAST_ZERO),
        number("learning_rate", POSITIVE, tunable=Interval(1e-6, 0.5)),
        number("momentum", BELOW_ONE, tunable=Interval(0.0, 0.999)),
        choice("optimizer", *OPTIMIZERS, tunable=Interval()),
        number("regularizers_l2", AT_LEAST_ZERO, tunable=Interval(0.0, 0.999)),
        choice("reinitialize_top_layer", "Auto", "true", "false"),
        number("rho", BELOW_ONE),
        switch("train_only_on_top_layer"),
        number("validation_split_ratio", INSIDE),
        number("warmup_steps_fraction", ZERO_TO_ONE),
    ),
    defaults={
        "batch_size": 32,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "dropout_rate": 0.2,
        "early_stopping": "false",
        "early_stopping_min_delta": 0.0,
        "early_stopping_patience": 5,
        "epochs": 10,
        "epsilon": 1e-7,
        "initial_accumulator_value": 0.0001,
        "learning_rate": 0.001,
        "momentum": 0.9,
        "optimizer": "adam",
        "regularizers_l2": 0.0001,
        "reinitialize_top_layer": "Auto",
        "rho": 0.95,
        "train_only_on_top_layer": "false",
        "validation_split_ratio": 0.2,
        "warmup_steps_fraction": 0.1,
    },
)


train, handler = entries(__name__, "HYPERPARAMETERS")


ALGORITHM = Algorithm(
    name="text-classification",
    hyperparameters=HYPERPARAMETERS,
    channels=(
        ChannelDeclaration("training", required=True, content_types=("text/csv",), modes=FILES),
        ChannelDeclaration("validation", content_types=("text/csv",), modes=FILES),
        ChannelDeclaration("model", modes=FILES),
        ChannelDeclaration("code", modes=FILES),
    ),
    metrics=(metric("validation:accuracy", r"val_accuracy=([0-9\.]+)", maximize=True),),
    train=train,
    serve=handler,
)
