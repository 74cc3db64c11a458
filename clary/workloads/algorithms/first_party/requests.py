"""The bodies of inference requests: JSON instances, JSON Lines, CSV and RecordIO-protobuf."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clary.workloads.algorithms.channels import parse_content_type
from clary.workloads.formats import csv_rows, recordio_protobuf
from clary.workloads.serving.handlers import Rejected

try:
    from orjson import loads as _loads
except ImportError:  # The environment of an image need not have it.
    from json import loads as _loads

JSON, JSON_LINES = "application/json", "application/jsonlines"
CSV, RECORDIO = "text/csv", "application/x-recordio-protobuf"
ALL = (JSON, JSON_LINES, CSV, RECORDIO)
# Requests with more cells than this stay sparse, if they are.
DENSE_CELLS_MAX = 4_000_000


def decode(body: bytes, content_type: str, features: int, accepted: Sequence[str]) -> Any:
    """The rows of a request as float32, `features` wide; refuses with 400 or 415."""
    kind, _ = parse_content_type(content_type or "")
    if kind not in accepted:
        raise Rejected(
            415,
            f"Content-type {content_type or '(none)'} not supported. Supported content-types: "
            f"{', '.join(accepted)}.",
        )
    if not body.strip():
        raise _unfit("the request body is empty")
    try:
        if kind == CSV:
            rows: Any = csv_rows.read(body).astype(np.float32)
        elif kind == RECORDIO:
            rows = _recordio(body, features)
        else:
            rows = _instances(body, kind, features)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as problem:
        raise _unfit(f"the body is not {kind}: {problem}") from problem
    return _checked(rows, features)


def _checked(rows: Any, features: int) -> Any:
    if not rows.shape[0]:
        raise _unfit("the request has no instances")
    if rows.shape[1] != features:
        raise _unfit(
            f"the rows have {rows.shape[1]} features, the model was trained with "
            f"feature_dim {features}"
        )
    values = rows if isinstance(rows, np.ndarray) else rows.data
    if not np.isfinite(values).all():
        raise _unfit("a feature is missing or is not a finite number")
    return rows


def _recordio(body: bytes, features: int) -> Any:
    found, _ = recordio_protobuf.read_matrix(body)
    if not isinstance(found, np.ndarray):
        if found.shape[1] < features:
            found.resize((found.shape[0], features))
        if found.shape[0] * found.shape[1] <= DENSE_CELLS_MAX:
            found = found.toarray()
    return found.astype(np.float32, copy=False)


def _instances(body: bytes, kind: str, features: int) -> Any:
    if kind == JSON:
        document = _loads(body)
        instances = document.get("instances") if isinstance(document, dict) else None
        if not isinstance(instances, list):
            raise ValueError('a JSON body is an object with a list "instances"')
    else:
        instances = [_loads(line) for line in body.splitlines() if line.strip()]
    values = [_features(instance) for instance in instances]
    if any(isinstance(one, dict) for one in values):
        return _sparse(values, features)
    widths = {len(one) for one in values}
    if len(widths) > 1:
        raise ValueError(f"instances differ in their number of features: {sorted(widths)}")
    return _array(values)


def _array(values: list[Any]) -> np.ndarray:
    rows = np.array(values)
    if rows.ndim == 1:
        rows = rows.reshape(len(values), -1)
    if rows.ndim != 2 or rows.dtype.kind not in "iuf":
        raise ValueError("features must be a list of numbers")
    return rows.astype(np.float32)


def _features(instance: Any) -> Any:
    """The list of a dense instance, or the dictionary of a sparse one."""
    if not isinstance(instance, dict):
        raise ValueError("an instance is an object")
    if "data" in instance:
        found = instance["data"]["features"]
    elif "features" in instance:
        found = instance["features"]
    else:
        raise ValueError('an instance has "features" or "data"')
    if isinstance(found, dict):
        return found if found.get("keys") is not None else list(found["values"])
    if not isinstance(found, list):
        raise ValueError("features must be a list of numbers")
    return found


def _sparse(values: list[Any], features: int) -> Any:
    """Rows of which at least one names its keys."""
    from scipy.sparse import csr_matrix

    keys, numbers, ends = [], [], [0]
    for one in values:
        if isinstance(one, Mapping):
            key, number = np.array(one["keys"], dtype=np.int64), _array([one["values"]])[0]
            shape = one.get("shape") or [features]
            stated = int(shape[-1] if isinstance(shape, list) else shape)
            if stated != features:
                raise ValueError(f"shape {stated} differs from feature_dim {features}")
        else:
            number = _array([one])[0]
            key = np.arange(len(number))
        if key.ndim != 1 or len(key) != len(number):
            raise ValueError(f"{len(number)} values have {key.size} keys")
        if len(key) and (key.min() < 0 or key.max() >= features):
            raise ValueError(f"a key is outside of 0 to {features - 1}")
        keys.append(key)
        numbers.append(number)
        ends.append(ends[-1] + len(key))
    matrix = csr_matrix(
        (np.concatenate(numbers), np.concatenate(keys), ends), shape=(len(values), features)
    )
    matrix.sum_duplicates()
    return matrix.toarray() if len(values) * features <= DENSE_CELLS_MAX else matrix


def _unfit(message: str) -> Rejected:
    return Rejected(400, f"unable to evaluate payload provided: {message}")


def as_json(value: Any) -> bytes:
    """JSON as the responses have it."""
    return json.dumps(value).encode()
