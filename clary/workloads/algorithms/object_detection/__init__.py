"""Object detection: a single-shot detector (SSD) that finds where things are and what they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from clary.workloads.algorithms.algorithm import Algorithm, entries
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT
from clary.workloads.algorithms.first_party.schema import Schema, choice, integer, number, text
from clary.workloads.algorithms.hyperparameters import Interval
from clary.workloads.algorithms.vision.declaration import (
    EPOCH_LIST,
    IMAGE,
    KV_STORE,
    RECORDIO,
    channel,
    early_stopping,
    model_channel,
    momentum_and_decay,
    quality_metric,
)

UNIT = Interval(0, 1, low_open=True)


def _freeze_layer_pattern(values: Mapping[str, Any]) -> None:
    try:
        re.compile(values["freeze_layer_pattern"])
    except re.error as problem:
        raise ClientError(
            f"The hyperparameter freeze_layer_pattern is no regular expression: {problem}"
        ) from problem


SCHEMA = Schema(
    declared=(
        integer("num_classes", 1, required=True),
        integer("num_training_samples", 1, required=True),
        choice("base_network", "vgg-16", "resnet-50"),
        *early_stopping(),
        *momentum_and_decay(),
        text("freeze_layer_pattern", r"(?s).*"),
        integer("image_shape", 300, 4096),
        choice("kv_store", "dist_sync", "dist_async"),
        integer("label_width", 1),
        number("learning_rate", UNIT, tunable=Interval(1e-6, 0.5)),
        text("lr_scheduler_step", EPOCH_LIST),
        number("nms_threshold", UNIT),
        choice("optimizer", "sgd", "adam", "rmsprop", "adadelta", tunable=Interval()),
        number("overlap_threshold", UNIT),
        choice("use_pretrained_model", "0", "1"),
    ),
    rules=(_freeze_layer_pattern,),
    defaults={
        "base_network": "vgg-16",
        "early_stopping": False,
        "early_stopping_min_epochs": 10,
        "early_stopping_patience": 5,
        "early_stopping_tolerance": 0.0,
        "epochs": 30,
        "freeze_layer_pattern": "",
        "image_shape": 300,
        "kv_store": "dist_sync",
        "label_width": 350,
        "learning_rate": 0.001,
        "lr_scheduler_factor": 0.1,
        "lr_scheduler_step": "",
        "mini_batch_size": 32,
        "momentum": 0.9,
        "nms_threshold": 0.45,
        "optimizer": "sgd",
        "overlap_threshold": 0.5,
        "use_pretrained_model": "1",
        "weight_decay": 0.0005,
    },
    without_effect={
        "kv_store": KV_STORE,
        "label_width": "labels need not be padded to one width.",
    },
)


train, handler = entries(__name__, "ALGORITHM")


ALGORITHM = Algorithm(
    name="object-detection",
    hyperparameters=SCHEMA,
    channels=(
        channel("train", RECORDIO, IMAGE, required=True),
        channel("validation", RECORDIO, IMAGE),
        channel("train_annotation", IMAGE),
        channel("validation_annotation", IMAGE),
        model_channel(),
    ),
    metrics=(
        PROGRESS,
        THROUGHPUT,
        quality_metric(
            "validation",
            "mAP",
            r"epoch=\S+, validation mAP <score>=\((\S+)\)",
            maximize=True,
        ),
        quality_metric(
            "train",
            "smooth_l1",
            r"epoch=\S+, batch=\S+ train smooth_l1 <loss>=(\S+)",
            maximize=False,
        ),
        quality_metric(
            "train",
            "cross_entropy",
            r"epoch=\S+, batch=\S+ train cross_entropy <loss>=(\S+)",
            maximize=False,
        ),
    ),
    train=train,
    serve=handler,
)
