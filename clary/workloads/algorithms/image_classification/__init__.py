"""Image classification: residual networks that learn from images which class or classes they show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.workloads.algorithms.algorithm import Algorithm, Metric, entries
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.log_lines import PROGRESS
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
)

LAYERS = ("18", "34", "50", "101", "152", "200", "20", "32", "44", "56", "110")
SIDE_MAX = 4096


def _image_shape(values: Mapping[str, Any]) -> None:
    channels, height, width = (int(word) for word in values["image_shape"].split(","))
    if channels not in (1, 3) or not (0 < height <= SIDE_MAX and 0 < width <= SIDE_MAX):
        raise ClientError(
            f"The hyperparameter image_shape is '{values['image_shape']}': expected 'channels,"
            f"height,width' with 1 or 3 channels and sides of 1 to {SIDE_MAX} pixels, as in "
            "'3,224,224'."
        )


SCHEMA = Schema(
    declared=(
        integer("num_classes", 1, required=True),
        integer("num_training_samples", 1, required=True),
        choice("augmentation_type", "crop", "crop_color", "crop_color_transform"),
        number("beta_1", Interval(0, 1, high_open=True), tunable=Interval(1e-6, 0.999)),
        number("beta_2", Interval(0, 1, high_open=True), tunable=Interval(1e-6, 0.999)),
        integer("checkpoint_frequency", 1),
        *early_stopping(),
        *momentum_and_decay(),
        number("eps", Interval(0, 1, low_open=True), tunable=Interval(1e-8, 1)),
        number("gamma", Interval(0, 1), tunable=Interval(1e-8, 0.999)),
        text("image_shape", r"\s*\d{1,5}\s*,\s*\d{1,5}\s*,\s*\d{1,5}\s*"),
        choice("kv_store", "dist_sync", "dist_async"),
        number("learning_rate", Interval(0, 1, low_open=True), tunable=Interval(1e-6, 0.5)),
        text("lr_scheduler_step", EPOCH_LIST),
        choice("multi_label", "0", "1"),
        choice("num_layers", *LAYERS),
        choice("optimizer", "sgd", "adam", "rmsprop", "nag", tunable=Interval()),
        choice("precision_dtype", "float32", "float16"),
        integer("resize", 1, SIDE_MAX),
        integer("top_k", 2),
        choice("use_pretrained_model", "0", "1"),
        choice("use_weighted_loss", "0", "1"),
    ),
    rules=(_image_shape,),
    defaults={
        "augmentation_type": None,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "checkpoint_frequency": None,
        "early_stopping": False,
        "early_stopping_min_epochs": 10,
        "early_stopping_patience": 5,
        "early_stopping_tolerance": 0.0,
        "epochs": 30,
        "eps": 1e-8,
        "gamma": 0.9,
        "image_shape": "3,224,224",
        "kv_store": "dist_sync",
        "learning_rate": 0.1,
        "lr_scheduler_factor": 0.1,
        "lr_scheduler_step": "",
        "mini_batch_size": 32,
        "momentum": 0.9,
        "multi_label": "0",
        "num_layers": "152",
        "optimizer": "sgd",
        "precision_dtype": "float32",
        "resize": None,
        "top_k": None,
        "use_pretrained_model": "0",
        "use_weighted_loss": "0",
        "weight_decay": 0.0001,
    },
    without_effect={"kv_store": KV_STORE},
)


train, handler = entries(__name__, "ALGORITHM")


ALGORITHM = Algorithm(
    name="image-classification",
    hyperparameters=SCHEMA,
    channels=(
        channel("train", RECORDIO, IMAGE, required=True),
        channel("validation", RECORDIO, IMAGE),
        channel("train_lst", IMAGE),
        channel("validation_lst", IMAGE),
        model_channel(),
    ),
    metrics=(
        PROGRESS,
        Metric("train:accuracy", r"Epoch\S+ Batch \S+\s+Speed: .*\saccuracy=(\S+)", True),
        Metric("train:accuracy:epoch", r"Epoch\S+ Train-accuracy=(\S+)", True),
        Metric("validation:accuracy", r"Epoch\S+ Validation-accuracy=(\S+)", True),
    ),
    train=train,
    serve=handler,
)
