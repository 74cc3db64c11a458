"""TabTransformer: attention among the categories of a table, as JumpStart's script trains it."""

from __future__ import annotations

from clary.workloads.algorithms.algorithm import Algorithm, entries
from clary.workloads.algorithms.hyperparameters import Interval
from clary.workloads.algorithms.tabular.declaration import (
    AT_LEAST_ONE,
    CHANNELS,
    POSITIVE,
    ZERO_TO_ONE,
    Defaulted,
    choice,
    integer,
    metric,
    number,
)

HYPERPARAMETERS = Defaulted(
    declared=(
        integer("n_epochs", AT_LEAST_ONE),
        integer("patience", AT_LEAST_ONE),
        number("learning_rate", POSITIVE, tunable=Interval(0.001, 0.01)),
        integer("batch_size", AT_LEAST_ONE),
        choice("input_dim", "16", "32", "64", "128", "256", "512", tunable=Interval()),
        integer("n_blocks", Interval(1, 12), tunable=Interval(1, 12)),
        number("attn_dropout", ZERO_TO_ONE, tunable=Interval(0.0, 0.8)),
        number("mlp_dropout", ZERO_TO_ONE, tunable=Interval(0.0, 0.8)),
        number("frac_shared_embed", ZERO_TO_ONE, tunable=Interval(0.0, 0.5)),
    ),
    defaults={
        "n_epochs": 5,
        "patience": 10,
        "learning_rate": 0.001,
        "batch_size": 256,
        "input_dim": "32",
        "n_blocks": 4,
        "attn_dropout": 0.2,
        "mlp_dropout": 0.1,
        "frac_shared_embed": 0.25,
    },
)


train, handler = entries(__name__, "HYPERPARAMETERS")


ALGORITHM = Algorithm(
    name="tabtransformer",
    hyperparameters=HYPERPARAMETERS,
    channels=CHANNELS,
    metrics=(
        metric("r2", r"metrics={'r2': (\S+)}", maximize=True),
        metric("f1_score", r"metrics={'f1': (\S+)}", maximize=True),
        metric("accuracy_score", r"metrics={'accuracy': (\S+)}", maximize=True),
    ),
    train=train,
    serve=handler,
)
