"""LDA: topics of a corpus of word counts, as the `lda` image finds and serves them."""

from __future__ import annotations

from clary.workloads.algorithms.algorithm import Algorithm, entries
from clary.workloads.algorithms.first_party.declaration import channels
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT, quality_metric
from clary.workloads.algorithms.first_party.schema import POSITIVE, Schema, integer, number
from clary.workloads.algorithms.hyperparameters import Interval

SCHEMA = Schema(
    declared=(
        integer("num_topics", 1, required=True, tunable=Interval(1, 150)),
        integer("feature_dim", 1, required=True),
        integer("mini_batch_size", 1, required=True),
        number("alpha0", POSITIVE, tunable=Interval(0.1, 10)),
        integer("max_restarts", 1),
        integer("max_iterations", 1),
        number("tol", POSITIVE),
    ),
    defaults={"alpha0": 1.0, "max_restarts": 10, "max_iterations": 1000, "tol": 1e-8},
    without_effect={
        "mini_batch_size": "all documents are seen together, however many there are.",
    },
)


train, handler = entries(__name__, "ALGORITHM")


ALGORITHM = Algorithm(
    name="lda",
    hyperparameters=SCHEMA,
    channels=channels("test"),
    metrics=(PROGRESS, THROUGHPUT, quality_metric("test", "pwll", maximize=True)),
    train=train,
    serve=handler,
)
