"""The responses of an XGBoost endpoint: its content types, and the outputs a user may select."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from clary.workloads.algorithms.channels import parse_content_type
from clary.workloads.formats import recordio_protobuf
from clary.workloads.serving.handlers import Rejected

JSON, JSONLINES = "application/json", "application/jsonlines"
RECORDIO, CSV = "application/x-recordio-protobuf", "text/csv"
SUPPORTED = (JSON, JSONLINES, RECORDIO, CSV)
SHORT = {"json": JSON, "jsonlines": JSONLINES, "csv": CSV, "recordio-protobuf": RECORDIO}

_CLASSES = ("predicted_label", "labels")
_SCORES = ("raw_score", "raw_scores")
_PROBABILITIES = ("probability", "probabilities")
SELECTABLE: dict[str, tuple[str, ...]] = {
    "reg:linear": ("predicted_score",),
    "reg:squarederror": ("predicted_score",),
    "reg:logistic": ("predicted_score",),
    "reg:gamma": ("predicted_score",),
    "reg:tweedie": ("predicted_score",),
    "binary:logistic": (*_CLASSES, *_PROBABILITIES, *_SCORES),
    "binary:logitraw": (*_CLASSES, *_SCORES),
    "binary:hinge": (*_CLASSES, *_SCORES),
    "multi:softmax": (*_CLASSES, *_SCORES),
    "multi:softprob": (*_CLASSES, *_PROBABILITIES, *_SCORES),
}


def accepted(accept: str, default: str) -> str:
    """The content type to answer with, the first of several; refuses with 406."""
    wanted, _ = parse_content_type((accept or "").split(",", 1)[0])
    if wanted in ("", "*/*"):
        wanted, _ = parse_content_type(default)
    kind = SHORT.get(wanted, wanted)
    if kind not in SUPPORTED:
        raise Rejected(
            406,
            f"Accept type {accept} is not supported. "
            f"Please use supported accept types: {list(SUPPORTED)}.",
        )
    return kind


def encode(results: np.ndarray, kind: str, is_batch: bool) -> bytes:
    """All results: `score` is a number, or a list where there is one for each class."""
    scores = results.tolist()
    if kind == CSV:
        text = "\n".join(map(str, scores))
        return (text + "\n" if is_batch else text).encode()
    if kind == RECORDIO:
        return recordio_protobuf.write_outputs({"score": np.asarray(results, dtype=np.float32)})
    predictions = [{"score": score} for score in scores]
    return _json(predictions, kind)


def _json(predictions: list[dict[str, Any]], kind: str) -> bytes:
    if kind == JSONLINES:
        return "".join(json.dumps(one) + "\n" for one in predictions).encode()
    return json.dumps({"predictions": predictions}).encode()


def selected(
    results: np.ndarray, keys: Sequence[str], objective: str, classes: int
) -> list[dict[str, Any]]:
    """The selected outputs of each row; a key that the objective does not have is NaN.

    Raises ValueError where the objective has none at all.
    """
    available = SELECTABLE.get(objective)
    if available is None:
        raise ValueError(
            f"Objective `{objective}` unsupported for selectable inference predictions."
        )
    return [
        {
            key: _output(key, result, objective, classes) if key in available else math.nan
            for key in keys
        }
        for result in results
    ]


def _output(key: str, result: Any, objective: str, classes: int) -> Any:
    if key == "predicted_label":
        return _label(result, objective)
    if key == "labels":
        return list(range(classes)) if objective.startswith("multi:") else [0, 1]
    if objective == "multi:softprob":
        return float(max(result)) if key in ("probability", "raw_score") else result.tolist()
    value = result.item()
    if key in ("probabilities", "raw_scores"):
        return [1.0 - value, value]
    return value


def _label(result: Any, objective: str) -> float | int:
    if objective == "multi:softprob":
        return int(np.argmax(result))
    if objective == "binary:logistic":
        return int(result > 0.5)
    if objective == "binary:logitraw":
        return int(result > 0)
    return result.item()


def encode_selected(
    predictions: list[dict[str, Any]], keys: Sequence[str], kind: str, is_batch: bool
) -> bytes:
    """The selected outputs in the order in which they were asked for."""
    if kind == CSV:
        lines = [",".join(_field(one[key]) for key in keys) for one in predictions]
        text = "\n".join(lines)
        return (text + "\n" if is_batch else text).encode()
    if kind == RECORDIO:
        columns = {
            key: np.asarray([one[key] for one in predictions], dtype=np.float32) for key in keys
        }
        return recordio_protobuf.write_outputs(columns)
    return _json(predictions, kind)


def _field(value: Any) -> str:
    return f'"{value}"' if isinstance(value, list) else str(value)
