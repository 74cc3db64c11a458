"""Seq2Seq: one sequence of words from another, as the `seq2seq` image learns and serves it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.channels import ChannelDeclaration
from clary.workloads.algorithms.first_party.declaration import RECORDIO
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT, quality_metric
from clary.workloads.algorithms.first_party.schema import (
    AT_LEAST_ZERO,
    BELOW_ONE,
    POSITIVE,
    Schema,
    boolean,
    choice,
    integer,
    number,
)
from clary.workloads.algorithms.hyperparameters import Interval
from clary.workloads.algorithms.job import Job
from clary.workloads.serving.handlers import Handler

RNN, CNN = "rnn", "cnn"
PERPLEXITY, ACCURACY, BLEU = "perplexity", "accuracy", "bleu"
_HALF = Interval(0, 0.5)


def _parts_fit(values: Mapping[str, Any]) -> None:
    """What one hyperparameter cannot say alone."""
    if values["rnn_num_hidden"] % 2:
        raise ClientError(f"rnn_num_hidden must be even, not {values['rnn_num_hidden']}.")


SCHEMA = Schema(
    declared=(
        integer("batch_size", 1, tunable=Interval(16, 2048)),
        integer("beam_size", 1, 1000),
        integer("bleu_sample_size", -1),
        integer("bucket_width", 1),
        boolean("bucketing_enabled"),
        integer("checkpoint_frequency_num_batches", 1),
        integer("checkpoint_threshold", 1),
        number("clip_gradient", AT_LEAST_ZERO, tunable=Interval(1, 5)),
        choice("cnn_activation_type", "glu", "relu", "softrelu", "sigmoid", "tanh"),
        number("cnn_hidden_dropout", BELOW_ONE, tunable=_HALF),
        integer("cnn_kernel_width_decoder", 1),
        integer("cnn_kernel_width_encoder", 1),
        integer("cnn_num_hidden", 1, tunable=Interval(128, 2048)),
        choice("decoder_type", RNN, CNN),
        number("embed_dropout_source", BELOW_ONE, tunable=_HALF),
        number("embed_dropout_target", BELOW_ONE, tunable=_HALF),
        choice("encoder_type", RNN, CNN),
        integer("fixed_rate_lr_half_life", 1, tunable=Interval(10, 30)),
        number("learning_rate", POSITIVE, tunable=Interval(5e-5, 0.2)),
        choice("loss_type", "cross-entropy"),
        choice(
            "lr_scheduler_type",
            "plateau_reduce",
            "fixed_rate_inv_t",
            "fixed_rate_inv_sqrt_t",
            tunable=Interval(),
        ),
        integer("max_num_batches", -1),
        integer("max_num_epochs", 1),
        integer("max_seq_len_source", 1),
        integer("max_seq_len_target", 1),
        integer("min_num_epochs", 0),
        number("momentum", BELOW_ONE, tunable=Interval(0.5, 0.9)),
        integer("num_embed_source", 1, tunable=Interval(256, 512)),
        integer("num_embed_target", 1, tunable=Interval(256, 512)),
        integer("num_layers_decoder", 1, 100, tunable=Interval(1, 10)),
        integer("num_layers_encoder", 1, 100, tunable=Interval(1, 10)),
        choice("optimized_metric", PERPLEXITY, ACCURACY, BLEU),
        choice("optimizer_type", "adam", "sgd", "rmsprop", tunable=Interval()),
        number(
            "plateau_reduce_lr_factor", Interval(0, 1, low_open=True), tunable=Interval(0.1, 0.5)
        ),
        integer("plateau_reduce_lr_threshold", 1, tunable=Interval(1, 5)),
        boolean("rnn_attention_in_upper_layers"),
        integer("rnn_attention_num_hidden", 1),
        choice("rnn_attention_type", "dot", "fixed", "mlp", "bilinear"),
        choice("rnn_cell_type", "lstm", "gru"),
        number("rnn_decoder_hidden_dropout", BELOW_ONE, tunable=_HALF),
        choice("rnn_decoder_state_init", "last", "avg", "zero"),
        integer("rnn_first_residual_layer", 2),
        integer("rnn_num_hidden", 2, tunable=Interval(128, 2048)),
        boolean("rnn_residual_connections"),
        choice("training_metric", PERPLEXITY, ACCURACY),
        number("weight_decay", AT_LEAST_ZERO, tunable=Interval(0, 0.1)),
        number("weight_init_scale", POSITIVE, tunable=Interval(0.05, 1)),
        choice("weight_init_type", "uniform", "xavier", tunable=Interval()),
        choice("xavier_factor_type", "in", "out", "avg"),
    ),
    defaults={
        "batch_size": 64,
        "beam_size": 5,
        "bleu_sample_size": 0,
        "bucket_width": 10,
        "bucketing_enabled": True,
        "checkpoint_frequency_num_batches": 1000,
        "checkpoint_threshold": 3,
        "clip_gradient": 1.0,
        "cnn_activation_type": "glu",
        "cnn_hidden_dropout": 0.0,
        "cnn_kernel_width_decoder": 5,
        "cnn_kernel_width_encoder": 3,
        "cnn_num_hidden": 512,
        "decoder_type": RNN,
        "embed_dropout_source": 0.0,
        "embed_dropout_target": 0.0,
        "encoder_type": RNN,
        "fixed_rate_lr_half_life": 10,
        "learning_rate": 0.0003,
        "loss_type": "cross-entropy",
        "lr_scheduler_type": "plateau_reduce",
        "max_num_batches": -1,
        "max_num_epochs": None,
        "max_seq_len_source": 100,
        "max_seq_len_target": 100,
        "min_num_epochs": 0,
        "momentum": None,
        "num_embed_source": 512,
        "num_embed_target": 512,
        "num_layers_decoder": 1,
        "num_layers_encoder": 1,
        "optimized_metric": PERPLEXITY,
        "optimizer_type": "adam",
        "plateau_reduce_lr_factor": 0.5,
        "plateau_reduce_lr_threshold": 3,
        "rnn_attention_in_upper_layers": True,
        "rnn_attention_num_hidden": None,
        "rnn_attention_type": "mlp",
        "rnn_cell_type": "lstm",
        "rnn_decoder_hidden_dropout": 0.0,
        "rnn_decoder_state_init": "last",
        "rnn_first_residual_layer": 2,
        "rnn_num_hidden": 1024,
        "rnn_residual_connections": False,
        "training_metric": PERPLEXITY,
        "weight_decay": 0.0,
        "weight_init_scale": 2.34,
        "weight_init_type": "xavier",
        "xavier_factor_type": "in",
    },
    rules=(_parts_fit,),
)


def train(job: Job) -> None:
    from clary.workloads.algorithms.seq2seq import training

    training.train(job, ALGORITHM)


def handler(model_dir: str | Path) -> Handler:
    """The model of a folder, ready to answer; what the model server calls in algorithm mode."""
    from clary.workloads.algorithms.seq2seq import serving

    return serving.load(Path(model_dir))


_RECORDS = (RECORDIO, "")
_FILES = ("File", "FastFile")

ALGORITHM = Algorithm(
    name="seq2seq",
    hyperparameters=SCHEMA,
    channels=(
        ChannelDeclaration("train", required=True, content_types=_RECORDS, modes=_FILES),
        ChannelDeclaration("validation", required=True, content_types=_RECORDS, modes=_FILES),
        ChannelDeclaration("vocab", required=True, modes=_FILES),
    ),
    metrics=(
        quality_metric("validation", PERPLEXITY, maximize=False),
        quality_metric("validation", ACCURACY, maximize=True),
        quality_metric("validation", BLEU, maximize=True),
        PROGRESS,
        THROUGHPUT,
    ),
    train=train,
    serve=handler,
)
