"""Random cut forest: how unusual an example is, as the `randomcutforest` image scores it."""

from __future__ import annotations

from pathlib import Path

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.first_party.declaration import channels
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT, quality_metric
from clary.workloads.algorithms.first_party.schema import Schema, integer, names
from clary.workloads.algorithms.hyperparameters import Interval
from clary.workloads.algorithms.job import Job
from clary.workloads.serving.handlers import BatchHandler

SCHEMA = Schema(
    declared=(
        integer("feature_dim", 1, 10000, required=True),
        integer("num_trees", 50, 1000, tunable=Interval(50, 1000)),
        integer("num_samples_per_tree", 1, 2048, tunable=Interval(1, 2048)),
        names("eval_metrics", "accuracy", "precision_recall_fscore"),
        integer("mini_batch_size", 1),
    ),
    defaults={
        "num_trees": 100,
        "num_samples_per_tree": 256,
        "eval_metrics": ["accuracy", "precision_recall_fscore"],
        "mini_batch_size": 1000,
    },
    without_effect={"mini_batch_size": "the data is read in pieces of fixed size in bytes."},
)


def train(job: Job) -> None:
    from clary.workloads.algorithms.randomcutforest import training

    training.train(job, ALGORITHM)


def handler(model_dir: str | Path) -> BatchHandler:
    """The model of a folder, ready to answer; what the model server calls in algorithm mode."""
    from clary.workloads.algorithms.randomcutforest import serving

    return serving.load(Path(model_dir))


ALGORITHM = Algorithm(
    name="randomcutforest",
    hyperparameters=SCHEMA,
    channels=channels("test"),
    metrics=(
        PROGRESS,
        THROUGHPUT,
        quality_metric("test", "f1", maximize=True),
        quality_metric("test", "accuracy", maximize=True),
        quality_metric("test", "precision", maximize=True),
        quality_metric("test", "recall", maximize=True),
    ),
    train=train,
    serve=handler,
)
