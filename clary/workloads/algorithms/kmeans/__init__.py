"""K-means: groups of examples around k centres, as the `kmeans` image finds and serves them."""

from __future__ import annotations

from clary.workloads.algorithms.algorithm import Algorithm, entries
from clary.workloads.algorithms.first_party.declaration import channels
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT, quality_metric
from clary.workloads.algorithms.first_party.schema import Schema, choice, integer, names, number
from clary.workloads.algorithms.hyperparameters import Interval

INITS = ("random", "kmeans++")

SCHEMA = Schema(
    declared=(
        integer("feature_dim", 1, required=True),
        integer("k", 1, required=True),
        integer("epochs", 1, tunable=Interval(1, 10)),
        names("eval_metrics", "msd", "ssd"),
        integer("extra_center_factor", 1, auto=True, tunable=Interval(4, 10)),
        integer("half_life_time_size", 0),
        choice("init_method", *INITS, tunable=Interval()),
        choice("local_lloyd_init_method", *INITS),
        integer("local_lloyd_max_iter", 1),
        integer("local_lloyd_num_trials", 1, auto=True),
        number("local_lloyd_tol", Interval(0, 1)),
        integer("mini_batch_size", 1, tunable=Interval(3000, 15000)),
    ),
    defaults={
        "epochs": 1,
        "eval_metrics": ["msd"],
        "extra_center_factor": "auto",
        "half_life_time_size": 0,
        "init_method": "random",
        "local_lloyd_init_method": "kmeans++",
        "local_lloyd_max_iter": 300,
        "local_lloyd_num_trials": "auto",
        "local_lloyd_tol": 0.0001,
        "mini_batch_size": 5000,
    },
    without_effect={
        "half_life_time_size": "all examples count alike, for the centres are refined on all of "
        "the data and not only on what came last.",
    },
)


train, handler = entries(__name__, "ALGORITHM")


ALGORITHM = Algorithm(
    name="kmeans",
    hyperparameters=SCHEMA,
    channels=channels("test"),
    metrics=(
        PROGRESS,
        THROUGHPUT,
        quality_metric("train", "msd", maximize=False),
        quality_metric("train", "ssd", maximize=False),
        quality_metric("test", "msd", maximize=False),
        quality_metric("test", "ssd", maximize=False),
    ),
    train=train,
    serve=handler,
)
