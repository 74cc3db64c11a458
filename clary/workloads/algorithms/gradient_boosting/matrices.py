"""The channels of a job as XGBoost's matrices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost

from clary.workloads.algorithms import tables
from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.growing_matrix import forget, is_spilled
from clary.workloads.algorithms.job import Job

FOLDER_DEPTH_MAX = 3
ACCEPTED = (
    "csv",
    "libsvm",
    "parquet",
    "recordio-protobuf",
    "text/csv",
    "text/libsvm",
    "text/x-libsvm",
    "application/x-parquet",
    "application/x-recordio-protobuf",
)


@dataclass(frozen=True)
class Tables:
    """What a host has to train on; None where a channel is absent or empty on this host."""

    train: tables.Table | None
    validation: tables.Table | None


def read(job: Job) -> Tables:
    """Read both channels, which have the content type of the `train` channel."""
    train = job.channels["train"]
    format_name = format_of(train)
    if train.is_pipe and format_name == tables.LIBSVM:
        raise UserError("Pipe mode not supported for LibSVM.")
    weighted = bool(job.hyperparameters.get("csv_weights")) and format_name == tables.CSV
    found = {
        name: tables.read(
            job.channels[name],
            format_name,
            depth_max=FOLDER_DEPTH_MAX,
            weights_in_second_column=weighted,
            threads=job.threads,
            spills=takes_quantiles(job.hyperparameters),
        )
        for name in ("train", "validation")
        if name in job.channels
    }
    return Tables(found.get("train"), found.get("validation"))


def format_of(channel: Channel) -> str:
    """The format that a channel's content type names; LIBSVM if it has none."""
    if not channel.content_type:
        return tables.LIBSVM
    format_name = tables.FORMATS.get(channel.content_type)
    if format_name is None:
        raise UserError(
            f"{channel.declared_type} is not an accepted ContentType: {', '.join(ACCEPTED)}."
        )
    if format_name == tables.CSV and channel.parameters.get("label_size", "1") != "1":
        raise UserError(
            f"{channel.declared_type} is not an accepted csv ContentType. "
            "Optional parameter label_size must be equal to 1"
        )
    return format_name


def takes_quantiles(parameters: Mapping[str, Any]) -> bool:
    """Whether training only sees quantiles, so that the exact values need not be kept."""
    method = parameters.get("tree_method", "auto")
    major = int(xgboost.__version__.split(".")[0])
    uses_histogram = method == "hist" or (method == "auto" and major >= 2)
    return (
        uses_histogram
        and parameters.get("booster", "gbtree") != "gblinear"
        and not parameters.get("updater")
        and parameters.get("process_type", "default") == "default"
    )


def matrix(
    table: tables.Table, parameters: Mapping[str, Any], reference: Any = None
) -> xgboost.DMatrix:
    """The table as XGBoost trains on it; `reference` is the training matrix of a validation one."""
    given: dict[str, Any] = {
        "label": table.labels,
        "weight": table.weights,
        "qid": table.query_ids,
        "nthread": parameters.get("nthread"),
    }
    try:
        if takes_quantiles(parameters):
            bins = parameters.get("max_bin")
            if bins:
                given["max_bin"] = bins
            if is_spilled(table.features):
                return xgboost.QuantileDMatrix(_Batches(table), ref=reference, **_own(given))
            return xgboost.QuantileDMatrix(table.features, ref=reference, **given)
        return xgboost.DMatrix(table.features, **given)
    except (xgboost.core.XGBoostError, ValueError) as problem:
        text = without_stack(str(problem))
        raise UserError(f"The data cannot be trained on: {text}") from problem


def without_stack(text: str) -> str:
    """The library's message without the places in its own code: the log has these."""
    told = text.partition("Stack trace:")[0].strip()
    return re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", told)


def _own(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the matrix itself; labels and the like come with the batches."""
    return {name: given[name] for name in ("nthread", "max_bin") if name in given}


class _Batches(xgboost.DataIter):
    """A spilled table, some thousands of rows at a time; the library goes over it a few times."""

    def __init__(self, table: tables.Table) -> None:
        super().__init__()
        self.table, self.at = table, 0

    def next(self, input_data: Any) -> int:
        forget(self.table.features)
        rows = slice(self.at, self.at + tables.ROWS_AT_ONCE)
        if self.at >= len(self.table.labels):
            return 0
        weights = self.table.weights
        input_data(
            data=self.table.features[rows],
            label=self.table.labels[rows],
            weight=None if weights is None else weights[rows],
        )
        self.at = rows.stop
        return 1

    def reset(self) -> None:
        self.at = 0


def same_width(train: tables.Table, validation: tables.Table) -> tables.Table:
    """The validation table with as many columns as the training table; raise UserError if wider.

    Sparse files say only the largest index they hold, so two of them may differ.
    """
    wanted, width = train.features.shape[1], validation.features.shape[1]
    if wanted == width:
        return validation
    if isinstance(validation.features, np.ndarray):
        raise UserError(
            f"feature_names mismatch: the train channel has {wanted} features, the validation "
            f"channel {width}."
        )
    features = validation.features.copy()
    features.resize((features.shape[0], wanted))
    return tables.Table(features, validation.labels, validation.weights, validation.query_ids)


def both(train: tables.Table, validation: tables.Table | None) -> tables.Table:
    """One table of all examples, for cross validation."""
    return train if validation is None else tables.joined([train, same_width(train, validation)])
