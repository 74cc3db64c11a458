"""NTM: topics of documents by a variational autoencoder, as the `ntm` image finds and serves them."""

from __future__ import annotations

from clary.workloads.algorithms.algorithm import Algorithm, entries
from clary.workloads.algorithms.channels import ChannelDeclaration
from clary.workloads.algorithms.first_party.declaration import channels
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT, quality_metric
from clary.workloads.algorithms.first_party.schema import (
    Schema,
    boolean,
    choice,
    integer,
    number,
    text,
)
from clary.workloads.algorithms.hyperparameters import Interval

LAYERS = r"auto|\[\s*[1-9]\d{0,5}(\s*,\s*[1-9]\d{0,5})*\s*\]"

SCHEMA = Schema(
    declared=(
        integer("feature_dim", 1, 1_000_000, required=True),
        integer("num_topics", 2, 1000, required=True),
        boolean("batch_norm"),
        number("clip_gradient", Interval(1e-3), words=("inf",)),
        text("encoder_layers", LAYERS),
        choice("encoder_layers_activation", "sigmoid", "tanh", "relu", tunable=Interval()),
        integer("epochs", 1, 100),
        number("learning_rate", Interval(1e-6, 1), tunable=Interval(1e-4, 0.1)),
        integer("mini_batch_size", 1, 10_000, tunable=Interval(16, 2048)),
        integer("num_patience_epochs", 1, 10),
        choice("optimizer", "sgd", "adam", "adagrad", "adadelta", "rmsprop", tunable=Interval()),
        number("rescale_gradient", Interval(1e-3, 1), tunable=Interval(0.1, 1)),
        number("sub_sample", Interval(0, 1)),
        number("tolerance", Interval(1e-6, 0.1)),
        number("weight_decay", Interval(0, 1), tunable=Interval(0, 1)),
    ),
    defaults={
        "batch_norm": False,
        "clip_gradient": "inf",
        "encoder_layers": "auto",
        "encoder_layers_activation": "sigmoid",
        "epochs": 50,
        "learning_rate": 0.001,
        "mini_batch_size": 256,
        "num_patience_epochs": 3,
        "optimizer": "adadelta",
        "rescale_gradient": 1.0,
        "sub_sample": 1.0,
        "tolerance": 0.001,
        "weight_decay": 0.0,
    },
)


train, handler = entries(__name__, "ALGORITHM")


ALGORITHM = Algorithm(
    name="ntm",
    hyperparameters=SCHEMA,
    channels=(
        *channels("validation", "test"),
        ChannelDeclaration("auxiliary", content_types=("text/plain",)),
    ),
    metrics=(
        PROGRESS,
        THROUGHPUT,
        quality_metric("validation", "total_loss", maximize=False),
        quality_metric("test", "total_loss", maximize=False),
    ),
    train=train,
    serve=handler,
)
