"""PCA: examples projected on their principal components, as the `pca` image does it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.first_party.declaration import channels
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT
from clary.workloads.algorithms.first_party.schema import Schema, boolean, choice, integer
from clary.workloads.algorithms.job import Job
from clary.workloads.serving.handlers import BatchHandler


def _fits(values: Mapping[str, Any]) -> None:
    if values["num_components"] > values["feature_dim"]:
        raise ClientError(
            f"num_components ({values['num_components']}) must be less than or equal to "
            f"feature_dim ({values['feature_dim']})."
        )


SCHEMA = Schema(
    declared=(
        integer("feature_dim", 1, required=True),
        integer("mini_batch_size", 1, required=True),
        integer("num_components", 1, required=True),
        choice("algorithm_mode", "regular", "randomized"),
        integer("extra_components", -1),
        boolean("subtract_mean"),
    ),
    rules=(_fits,),
    defaults={"algorithm_mode": "regular", "extra_components": -1, "subtract_mean": True},
    without_effect={"mini_batch_size": "the data is read in pieces of fixed size in bytes."},
)


def train(job: Job) -> None:
    from clary.workloads.algorithms.pca import training

    training.train(job, ALGORITHM)


def handler(model_dir: str | Path) -> BatchHandler:
    """The model of a folder, ready to answer; what the model server calls in algorithm mode."""
    from clary.workloads.algorithms.pca import serving

    return serving.load(Path(model_dir))


ALGORITHM = Algorithm(
    name="pca",
    hyperparameters=SCHEMA,
    channels=channels("test"),
    metrics=(PROGRESS, THROUGHPUT),
    train=train,
    serve=handler,
)
