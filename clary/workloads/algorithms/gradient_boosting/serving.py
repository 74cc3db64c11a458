"""Serving: the model of a folder behind the formats of the XGBoost container."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from clary.workloads.algorithms import tables
from clary.workloads.algorithms.channels import parse_content_type
from clary.workloads.algorithms.execution_parameters import execution_parameters
from clary.workloads.algorithms.gradient_boosting import c_interface, model_files, responses
from clary.workloads.serving.handlers import Rejected

PAYLOAD_BYTES_DEFAULT = 6 * 1024 * 1024
PAYLOAD_BYTES_MAX = 20 * 1024 * 1024
# Beyond this many cells a sparse request is not spread out into a dense matrix.
DENSE_CELLS_MAX = 4_000_000
REQUEST_FORMATS = (tables.CSV, tables.LIBSVM, tables.RECORDIO)
# Objectives whose predictions are classes: their mean would be no class, so the ensemble votes.
VOTED = ("multi:softmax", "binary:hinge")


@dataclass(frozen=True)
class Model:
    """One booster and what serving needs to know of it."""

    booster: xgboost.Booster
    features: int
    objective: str
    classes: int
    iterations: tuple[int, int]  # early stopping predicts with the rounds up to the best
    is_linear: bool
    direct: c_interface.Predictor | None  # the shortest way to predict dense rows


class XGBoostHandler:
    """Answers requests with one model, or with the mean (or vote) of several."""

    batchable = True

    def __init__(self, models: list[Model], environment: Mapping[str, str]) -> None:
        self.models = models
        self.features = models[0].features
        self.objective = models[0].objective
        self.is_batch = bool(environment.get("SAGEMAKER_BATCH"))
        self.default_accept = (
            environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or responses.CSV
        )
        selected = environment.get("SAGEMAKER_INFERENCE_OUTPUT") or ""
        self.selected = [word for word in selected.replace(" ", "").lower().split(",") if word]
        self.payload_bytes_max = _payload_bytes_max(environment)

    def ping(self) -> bool:
        return True

    def execution_parameters(self) -> dict[str, object]:
        return execution_parameters(megabytes=self.payload_bytes_max // (1024 * 1024))

    def decode(self, body: bytes, content_type: str) -> Any:
        """The rows of a request, as wide as the model; refuses with 204, 400 or 415."""
        if not body:
            raise Rejected(204, "")
        format_name = _format(content_type)
        columns = self.features if format_name == tables.LIBSVM and self.features else None
        try:
            rows = tables.decode_body(body, format_name)
        except (ValueError, OverflowError, MemoryError) as problem:
            raise Rejected(
                415,
                f"Loading {format_name} data failed with Exception, please ensure data is in "
                f"{format_name} format:\n {type(problem)}\n {problem}",
            ) from problem
        return self._fitted(rows, format_name, columns)

    def _fitted(self, rows: Any, format_name: str, columns: int | None) -> Any:
        """The rows with exactly the model's number of columns; missing ones at the end are NaN."""
        width, wanted = rows.shape[1], self.features
        if not wanted or width == wanted:
            return _dense(rows) if columns else rows
        if format_name == tables.LIBSVM:
            if width > wanted + 1:
                raise _unfit(
                    f"Feature size of libsvm inference data {width} is larger than feature size "
                    f"of trained model {wanted}."
                )
            rows.resize((rows.shape[0], wanted))
            return _dense(rows)
        if width != wanted - 1:
            raise _unfit(
                f"Feature size of {format_name} inference data {width} is not consistent with "
                f"feature size of trained model {wanted}."
            )
        if not isinstance(rows, np.ndarray):
            rows.resize((rows.shape[0], wanted))
            return _dense(rows)
        padded = np.full((rows.shape[0], wanted), np.nan, dtype=np.float32)
        padded[:, :width] = rows
        return padded

    def predict(self, rows: Any) -> np.ndarray:
        """One result a row: a number, or a vector for `multi:softprob`."""
        try:
            results = [_predict(model, rows) for model in self.models]
        except (xgboost.core.XGBoostError, ValueError) as problem:
            raise _unfit(str(problem)) from problem
        if len(results) == 1:
            return results[0]
        if self.objective in VOTED:
            return _vote(np.stack(results))
        return np.mean(results, axis=0)

    def encode(self, results: np.ndarray, accept: str) -> tuple[str, bytes]:
        """The content type and the body; refuses with 406."""
        kind = responses.accepted(accept, self.default_accept)
        if self.selected:
            try:
                chosen = responses.selected(
                    results, self.selected, self.objective, self.models[0].classes
                )
            except ValueError as problem:
                raise Rejected(500, str(problem)) from problem
            return kind, responses.encode_selected(chosen, self.selected, kind, self.is_batch)
        return kind, responses.encode(results, kind, self.is_batch)

    def invoke(
        self, body: bytes, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        """Answer one request by itself."""
        return (200, *self.encode(self.predict(self.decode(body, content_type)), accept))


def load(folder: Path, environment: Mapping[str, str] | None = None) -> XGBoostHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    environment = os.environ if environment is None else environment
    try:
        paths = _model_files(folder, environment)
        models = [_model(model_files.load(path)) for path in paths]
    except (OSError, ValueError) as problem:
        raise Rejected(500, f"Unable to load model: {problem}") from problem
    return XGBoostHandler(models, environment)


def _model_files(folder: Path, environment: Mapping[str, str]) -> list[Path]:
    files = sorted(
        path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")
    )
    if not files:
        raise ValueError(f"There is no model in {folder}")
    named = [path for path in files if path.name.startswith(model_files.MODEL)]
    found = named or files
    together = environment.get("SAGEMAKER_INFERENCE_ENSEMBLE", "true").lower() == "true"
    return found if together else found[:1]


def _model(booster: xgboost.Booster) -> Model:
    # Rows come one or few at a time: threads would cost more than they bring.
    booster.set_param({"nthread": 1})
    learner = json.loads(booster.save_config())["learner"]
    best = _best_iteration(booster)
    iterations = (0, 0) if best is None else (0, best + 1)
    is_linear = learner["gradient_booster"]["name"] == "gblinear"
    features = int(booster.num_features())
    return Model(
        booster=booster,
        features=features,
        objective=str(learner["objective"]["name"]),
        classes=int(learner["learner_model_param"].get("num_class", 0)),
        iterations=iterations,
        is_linear=is_linear,
        direct=None if is_linear else c_interface.predictor(booster, features, iterations),
    )


def _best_iteration(booster: xgboost.Booster) -> int | None:
    best = booster.attr("best_iteration")
    return int(best) if best is not None else None


def _predict(model: Model, rows: Any) -> np.ndarray:
    """Without a DMatrix where the library can; its answers are equal and it starts sooner."""
    if isinstance(rows, np.ndarray) and not model.is_linear:
        if model.direct is not None and rows.shape[1] == model.features:
            return model.direct(rows)
        return model.booster.inplace_predict(
            rows, iteration_range=model.iterations, validate_features=False
        )
    return model.booster.predict(
        xgboost.DMatrix(rows, nthread=1), iteration_range=model.iterations, validate_features=False
    )


def _vote(classes: np.ndarray) -> np.ndarray:
    """The class that most models say; the smallest of those that are equal."""
    votes = np.apply_along_axis(
        lambda column: np.bincount(column, minlength=1).argmax(), 0, classes.astype(np.int64)
    )
    return votes.astype(np.float32)


def _format(content_type: str) -> str:
    kind, _ = parse_content_type(content_type or responses.CSV)
    format_name = tables.FORMATS.get(kind)
    if format_name not in REQUEST_FORMATS:
        raise Rejected(
            415,
            f"{content_type} is not an accepted ContentType: csv, libsvm, parquet, "
            "recordio-protobuf, text/csv, text/libsvm, text/x-libsvm, application/x-parquet, "
            "application/x-recordio-protobuf.",
        )
    return format_name


def _dense(rows: Any) -> Any:
    """A sparse matrix with NaN where it says nothing, which is what XGBoost takes that for."""
    if isinstance(rows, np.ndarray) or rows.shape[0] * rows.shape[1] > DENSE_CELLS_MAX:
        return rows
    spread = np.full(rows.shape, np.nan, dtype=np.float32)
    pairs = rows.tocoo()
    spread[pairs.row, pairs.col] = pairs.data
    return spread


def _unfit(message: str) -> Rejected:
    return Rejected(400, f"Unable to evaluate payload provided: {message}")


def _payload_bytes_max(environment: Mapping[str, str]) -> int:
    try:
        wanted = int(environment.get("MAX_CONTENT_LENGTH") or PAYLOAD_BYTES_DEFAULT)
    except ValueError:
        wanted = PAYLOAD_BYTES_DEFAULT
    return min(wanted, PAYLOAD_BYTES_MAX)
