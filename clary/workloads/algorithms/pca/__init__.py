"""PCA: examples projected on their principal components, as the `pca` image does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.workloads.algorithms.algorithm import Algorithm, entries
from clary.workloads.algorithms.first_party.declaration import channels
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT
from clary.workloads.algorithms.first_party.schema import Schema, boolean, choice, integer


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


train, handler = entries(__name__, "ALGORITHM")


ALGORITHM = Algorithm(
    name="pca",
    hyperparameters=SCHEMA,
    channels=channels("test"),
    metrics=(PROGRESS, THROUGHPUT),
    train=train,
    serve=handler,
)
