"""k-nearest neighbors: the answer of the examples most like a row, as the `knn` image gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.workloads.algorithms.algorithm import Algorithm, entries
from clary.workloads.algorithms.first_party.declaration import channels
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.log_lines import PROGRESS, THROUGHPUT, quality_metric
from clary.workloads.algorithms.first_party.schema import Schema, choice, integer
from clary.workloads.algorithms.hyperparameters import Interval

# The sizes that product quantization knows.
PQ_SIZES = (
    "1",
    "2",
    "3",
    "4",
    "8",
    "12",
    "16",
    "20",
    "24",
    "28",
    "32",
    "40",
    "48",
    "56",
    "64",
    "96",
)


def _reduction_is_whole(values: Mapping[str, Any]) -> None:
    kind, target = (
        values.get("dimension_reduction_type"),
        values.get("dimension_reduction_target"),
    )
    if (kind is None) != (target is None):
        raise ClientError(
            "dimension_reduction_type and dimension_reduction_target must be given together."
        )
    if target is not None and target >= values["feature_dim"]:
        raise ClientError(
            f"dimension_reduction_target ({target}) must be less than feature_dim "
            f"({values['feature_dim']})."
        )


def _enough_samples(values: Mapping[str, Any]) -> None:
    if values["k"] > values["sample_size"]:
        raise ClientError(
            f"k ({values['k']}) must not be greater than sample_size ({values['sample_size']})."
        )


def _quantization_fits(values: Mapping[str, Any]) -> None:
    if values["index_type"] != "faiss.IVFPQ":
        return
    if "faiss_index_pq_m" not in values:
        raise ClientError("'faiss_index_pq_m' is required where index_type is faiss.IVFPQ")
    width = values.get("dimension_reduction_target") or values["feature_dim"]
    if width % int(values["faiss_index_pq_m"]):
        raise ClientError(
            f"faiss_index_pq_m ({values['faiss_index_pq_m']}) must divide the dimension of the "
            f"index ({width})."
        )


SCHEMA = Schema(
    declared=(
        integer("feature_dim", 1, required=True),
        integer("k", 1, required=True, tunable=Interval(1, 1024)),
        choice("predictor_type", "classifier", "regressor", required=True),
        integer("sample_size", 1, required=True, tunable=Interval(256, 20_000_000)),
        choice("dimension_reduction_type", "sign", "fjlt"),
        integer("dimension_reduction_target", 1),
        integer("faiss_index_ivf_nlists", 1, auto=True),
        choice("faiss_index_pq_m", *PQ_SIZES),
        choice("index_metric", "L2", "INNER_PRODUCT", "COSINE"),
        choice("index_type", "faiss.Flat", "faiss.IVFFlat", "faiss.IVFPQ"),
        integer("mini_batch_size", 1),
    ),
    rules=(_reduction_is_whole, _enough_samples, _quantization_fits),
    defaults={
        "faiss_index_ivf_nlists": "auto",
        "index_metric": "L2",
        "index_type": "faiss.Flat",
        "mini_batch_size": 5000,
    },
    without_effect={"mini_batch_size": "the data is read in pieces of fixed size in bytes."},
)


train, handler = entries(__name__, "ALGORITHM")


ALGORITHM = Algorithm(
    name="knn",
    hyperparameters=SCHEMA,
    channels=channels("test"),
    metrics=(
        PROGRESS,
        THROUGHPUT,
        quality_metric("test", "accuracy", maximize=True),
        quality_metric("test", "mse", maximize=False),
    ),
    train=train,
    serve=handler,
)
