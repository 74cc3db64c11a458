"""Semantic segmentation: the class of every pixel, by FCN, PSP or DeepLab on a residual network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from clary.workloads.algorithms.algorithm import Algorithm, Metric
from clary.workloads.algorithms.channels import ChannelDeclaration
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT
from clary.workloads.algorithms.first_party.schema import (
    POSITIVE,
    Schema,
    boolean,
    choice,
    integer,
    number,
    text,
)
from clary.workloads.algorithms.hyperparameters import Interval
from clary.workloads.algorithms.job import Job
from clary.workloads.algorithms.vision.declaration import (
    EPOCH_LIST,
    IMAGE,
    JPEG,
    PNG,
    RECORDIO,
    channel,
    early_stopping,
    model_channel,
    momentum_and_decay,
    needs,
    quality_metric,
)
from clary.workloads.serving.handlers import BatchHandler

UNIT = Interval(0, 1)

SCHEMA = Schema(
    declared=(
        integer("num_classes", 2, 254, required=True),
        integer("num_training_samples", 1, required=True),
        choice("algorithm", "fcn", "psp", "deeplab"),
        choice("backbone", "resnet-50", "resnet-101"),
        integer("base_size", 17),
        integer("crop_size", 17),
        *early_stopping(),
        *momentum_and_decay(),
        number("gamma1", UNIT),
        number("gamma2", UNIT),
        number("learning_rate", POSITIVE, tunable=Interval(1e-4, 1e-1)),
        choice("lr_scheduler", "step", "poly", "cosine"),
        text("lr_scheduler_step", EPOCH_LIST),
        choice("optimizer", "adam", "adagrad", "nag", "rmsprop", "sgd", tunable=Interval()),
        boolean("syncbn"),
        boolean("use_pretrained_model"),
        integer("validation_mini_batch_size", 1),
    ),
    rules=(needs("lr_scheduler_step", "lr_scheduler", "step"),),
    defaults={
        "algorithm": "fcn",
        "backbone": "resnet-50",
        "base_size": 520,
        "crop_size": 240,
        "early_stopping": False,
        "early_stopping_min_epochs": 5,
        "early_stopping_patience": 4,
        "early_stopping_tolerance": 0.0,
        "epochs": 10,
        "gamma1": 0.9,
        "gamma2": 0.9,
        "learning_rate": 0.001,
        "lr_scheduler": "poly",
        "lr_scheduler_factor": 0.1,
        "lr_scheduler_step": "",
        "mini_batch_size": 16,
        "momentum": 0.9,
        "optimizer": "sgd",
        "syncbn": False,
        "use_pretrained_model": True,
        "validation_mini_batch_size": 16,
        "weight_decay": 0.0001,
    },
    without_effect={"syncbn": "one device sees the whole batch."},
)


def train(job: Job) -> None:
    from clary.workloads.algorithms.semantic_segmentation import training

    training.train(job, ALGORITHM)


def handler(model_dir: str | Path) -> BatchHandler:
    """The model of a folder, ready to answer; images differ in size, so each is answered alone."""
    from clary.workloads.algorithms.semantic_segmentation import serving

    return cast("BatchHandler", serving.load(Path(model_dir)))


def _images(name: str, **more: Any) -> ChannelDeclaration:
    return channel(name, JPEG, PNG, IMAGE, RECORDIO, **more)


def _score(name: str) -> Metric:
    pattern = rf"epoch=\S+, validation {name} <score>=(\S+)"
    return quality_metric("validation", name, pattern, maximize=True)


ALGORITHM = Algorithm(
    name="semantic-segmentation",
    hyperparameters=SCHEMA,
    channels=(
        _images("train", required=True),
        _images("validation"),
        _images("train_annotation"),
        _images("validation_annotation"),
        channel("label_map", "application/json"),
        model_channel(),
    ),
    metrics=(
        PROGRESS,
        THROUGHPUT,
        quality_metric("train", "loss", r"epoch=\S+, train loss <loss>=(\S+)", maximize=False),
        _score("mIOU"),
        _score("pixel_accuracy"),
    ),
    train=train,
    serve=handler,
)
