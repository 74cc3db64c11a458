"""Random cut forest: how unusual an example is, as the `randomcutforest` image scores it."""

from __future__ import annotations

from clary.workloads.algorithms.algorithm import Algorithm, entries
from clary.workloads.algorithms.first_party.declaration import channels
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT, quality_metric
from clary.workloads.algorithms.first_party.schema import Schema, integer, names
from clary.workloads.algorithms.hyperparameters import Interval

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


train, handler = entries(__name__, "ALGORITHM")


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
