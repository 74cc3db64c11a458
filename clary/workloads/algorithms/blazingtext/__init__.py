"""BlazingText: word vectors, and classes of sentences, as the `blazingtext` image learns and serves them."""

from __future__ import annotations

from pathlib import Path

from clary.workloads.algorithms.algorithm import Algorithm, Metric
from clary.workloads.algorithms.channels import ChannelDeclaration
from clary.workloads.algorithms.first_party.schema import (
    AT_LEAST_ZERO,
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

SUPERVISED = "supervised"
BATCH_SKIPGRAM = "batch_skipgram"
MODES = (BATCH_SKIPGRAM, "skipgram", "cbow", SUPERVISED)

SCHEMA = Schema(
    declared=(
        choice("mode", *MODES, required=True, tunable=Interval()),
        integer("batch_size", 1, tunable=Interval(8, 32)),
        integer("buckets", 1, tunable=Interval(1_000_000, 10_000_000)),
        boolean("early_stopping"),
        integer("epochs", 1, tunable=Interval(5, 15)),
        boolean("evaluation"),
        number("learning_rate", POSITIVE, tunable=Interval(0.005, 0.01)),
        integer("max_char", 1),
        integer("min_char", 1),
        integer("min_count", 0, tunable=Interval(0, 100)),
        integer("min_epochs", 1),
        integer("negative_samples", 1, tunable=Interval(5, 25)),
        integer("patience", 1),
        number("sampling_threshold", AT_LEAST_ZERO, tunable=Interval(0.0001, 0.001)),
        boolean("subwords"),
        integer("vector_dim", 1, tunable=Interval(32, 300)),
        integer("window_size", 1, tunable=Interval(1, 10)),
        integer("word_ngrams", 1, tunable=Interval(1, 3)),
    ),
    defaults={
        "batch_size": 11,
        "buckets": 2_000_000,
        "early_stopping": False,
        "epochs": 5,
        "evaluation": True,
        "learning_rate": 0.05,
        "max_char": 6,
        "min_char": 3,
        "min_count": 5,
        "min_epochs": 5,
        "negative_samples": 5,
        "patience": 4,
        "sampling_threshold": 0.0001,
        "subwords": False,
        "vector_dim": 100,
        "window_size": 5,
        "word_ngrams": 2,
    },
    without_effect={
        "batch_size": "words are learned one by one on each thread, so there are no batches."
    },
)


def train(job: Job) -> None:
    from clary.workloads.algorithms.blazingtext import training

    training.train(job, ALGORITHM)


def handler(model_dir: str | Path) -> Handler:
    """The model of a folder, ready to answer; what the model server calls in algorithm mode."""
    from clary.workloads.algorithms.blazingtext import serving

    return serving.load(Path(model_dir))


TEXT = ("text/plain", "application/jsonlines", "")

ALGORITHM = Algorithm(
    name="blazingtext",
    hyperparameters=SCHEMA,
    channels=(
        ChannelDeclaration("train", required=True, content_types=TEXT),
        ChannelDeclaration("validation", content_types=TEXT),
    ),
    metrics=(
        Metric("train:mean_rho", r"#mean_rho: (\S+)", True),
        Metric("validation:accuracy", r"#validation_accuracy: (\S+)", True),
    ),
    train=train,
    serve=handler,
)
