"""Object2Vec: vectors of things from pairs of them, as the `object2vec` image learns and serves them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.workloads.algorithms.algorithm import Algorithm, Metric, entries
from clary.workloads.algorithms.channels import ChannelDeclaration
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT, quality_metric
from clary.workloads.algorithms.first_party.schema import (
    Schema,
    boolean,
    choice,
    integer,
    number,
    text,
)
from clary.workloads.algorithms.hyperparameters import Hyperparameter, Interval

NETWORKS = ("hcnn", "bilstm", "pooled_embedding")
COMPARATORS = ("hadamard", "concat", "abs_diff")
SOFTMAX, MEAN_SQUARED_ERROR = "softmax", "mean_squared_error"
_FILE = r"[\w./-]*"


def _encoder(side: str, *networks: str, required: bool = False) -> tuple[Hyperparameter, ...]:
    """The hyperparameters of one of the two encoders."""
    return (
        integer(f"{side}_max_seq_len", 1, 5000, required=required),
        integer(f"{side}_vocab_size", 2, 3_000_000, required=required),
        choice(f"{side}_network", *networks),
        integer(f"{side}_cnn_filter_width", 1, 9, tunable=Interval(1, 5)),
        integer(f"{side}_layers", 1, 4, auto=True, tunable=Interval(1, 4)),
        boolean(f"{side}_freeze_pretrained_embedding"),
        text(f"{side}_pretrained_embedding_file", _FILE),
        text(f"{side}_vocab_file", _FILE),
        integer(f"{side}_token_embedding_dim", 2, 1000, tunable=Interval(5, 300)),
    )


def _sides_fit(values: Mapping[str, Any]) -> None:
    """What one hyperparameter cannot say alone."""
    own = values["enc1_network"] != "enc0"
    if own and not values.get("enc1_vocab_size"):
        raise ClientError("'enc1_vocab_size' is a required property where enc1_network is not enc0")
    if own and not values.get("enc1_max_seq_len"):
        raise ClientError(
            "'enc1_max_seq_len' is a required property where enc1_network is not enc0"
        )
    if own and values["tied_token_embedding_weight"]:
        for name in ("vocab_size", "token_embedding_dim"):
            if values[f"enc0_{name}"] != values[f"enc1_{name}"]:
                raise ClientError(
                    f"tied_token_embedding_weight needs enc0_{name} and enc1_{name} to be equal."
                )


_ENCODER_DEFAULTS = {
    "cnn_filter_width": 3,
    "layers": "auto",
    "freeze_pretrained_embedding": True,
    "pretrained_embedding_file": "",
    "vocab_file": "",
    "token_embedding_dim": 300,
}

SCHEMA = Schema(
    declared=(
        *_encoder("enc0", *NETWORKS, required=True),
        *_encoder("enc1", "enc0", *NETWORKS),
        integer("bucket_width", 0, 100),
        Hyperparameter("comparator_list", "words", None, COMPARATORS),
        number("dropout", Interval(0, 1), tunable=Interval(0, 1)),
        integer("early_stopping_patience", 1, 5, tunable=Interval(1, 5)),
        number("early_stopping_tolerance", Interval(1e-6, 0.1), tunable=Interval(1e-3, 0.1)),
        integer("enc_dim", 4, 10_000, tunable=Interval(4, 4096)),
        integer("epochs", 1, 100, tunable=Interval(4, 20)),
        number("learning_rate", Interval(1e-6, 1), tunable=Interval(1e-6, 1)),
        integer("mini_batch_size", 1, 10_000, tunable=Interval(8, 512)),
        choice("mlp_activation", "tanh", "relu", "linear", tunable=Interval()),
        integer("mlp_dim", 2, 10_000, tunable=Interval(16, 1024)),
        integer("mlp_layers", 0, 10, tunable=Interval(1, 4)),
        integer("negative_sampling_rate", 0),
        integer("num_classes", 2, 30),
        choice("optimizer", "adadelta", "adagrad", "adam", "sgd", "rmsprop", tunable=Interval()),
        choice("output_layer", SOFTMAX, MEAN_SQUARED_ERROR),
        boolean("tied_token_embedding_weight"),
        choice("token_embedding_storage_type", "dense", "row_sparse"),
        number("weight_decay", Interval(0, 10_000), tunable=Interval(0, 1)),
    ),
    defaults={
        **{
            f"{side}_{name}": value
            for side in ("enc0", "enc1")
            for name, value in _ENCODER_DEFAULTS.items()
        },
        "enc0_network": "hcnn",
        "enc1_network": "enc0",
        "bucket_width": 0,
        "comparator_list": list(COMPARATORS),
        "dropout": 0.0,
        "early_stopping_patience": 3,
        "early_stopping_tolerance": 0.01,
        "enc_dim": 4096,
        "epochs": 30,
        "learning_rate": 0.0004,
        "mini_batch_size": 32,
        "mlp_activation": "linear",
        "mlp_dim": 512,
        "mlp_layers": 2,
        "negative_sampling_rate": 0,
        "num_classes": 2,
        "optimizer": "adam",
        "output_layer": SOFTMAX,
        "tied_token_embedding_weight": False,
        "token_embedding_storage_type": "dense",
        "weight_decay": 0.0,
    },
    without_effect={
        "bucket_width": "each batch is padded to its own longest sequence.",
        "token_embedding_storage_type": "gradients of embeddings are dense.",
    },
    rules=(_sides_fit,),
)


train, handler = entries(__name__, "ALGORITHM")


def _metrics() -> tuple[Metric, ...]:
    found = []
    for channel in ("train", "validation", "test"):
        found.append(quality_metric(channel, "accuracy", maximize=True))
        found.append(quality_metric(channel, "cross_entropy", maximize=False))
        found.append(quality_metric(channel, "mean_squared_error", maximize=False))
    return tuple(found)


LINES = ("application/jsonlines", "")

ALGORITHM = Algorithm(
    name="object2vec",
    hyperparameters=SCHEMA,
    channels=(
        ChannelDeclaration("train", required=True, content_types=LINES),
        ChannelDeclaration("validation", content_types=LINES),
        ChannelDeclaration("test", content_types=LINES),
        ChannelDeclaration("auxiliary"),
    ),
    metrics=(PROGRESS, THROUGHPUT, *_metrics()),
    train=train,
    serve=handler,
)
