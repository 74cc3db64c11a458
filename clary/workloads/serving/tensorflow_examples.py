"""Classify and regress of TensorFlow Serving: requests of tf.Examples, and the rows that their signatures answer.

{"examples": [{"<feature>": <value> | [...]}, ...], "context": {...}, "signature_name": "..."}
classify -> {"results": [[["<label>", <score>], ...], ...]}         regress -> {"results": [<value>, ...]}
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

METHODS = {
    "classify": "tensorflow/serving/classify",
    "regress": "tensorflow/serving/regress",
    "predict": "tensorflow/serving/predict",
}
CLASSES, SCORES, VALUES = "classes", "scores", "outputs"


class Unfit(ValueError):
    """A request or an answer that has not the form of the method."""


def examples_of(tensorflow: Any, request: Any) -> list[bytes]:
    """The serialized tf.Examples of a request; the features of its context are in every one."""
    examples = request.get("examples") if isinstance(request, dict) else None
    if not isinstance(examples, list) or not examples:
        raise Unfit("'examples' must be a list of at least one example.")
    shared = request.get("context") or {}
    if not isinstance(shared, dict) or not all(isinstance(one, dict) for one in examples):
        raise Unfit("'context' and each of the 'examples' must be objects of features.")
    return [_serialized(tensorflow, {**shared, **one}) for one in examples]


def classified(outputs: Mapping[str, Any]) -> list[list[list[Any]]]:
    """For each example, its labels with their scores."""
    labels, scores = outputs.get(CLASSES), outputs.get(SCORES)
    if labels is None and scores is None:
        raise Unfit(f"The signature answers neither '{CLASSES}' nor '{SCORES}'.")
    if labels is None:
        return [[["", score] for score in _row(row)] for row in scores or ()]
    if scores is None:
        return [[[label, 0.0] for label in _row(row)] for row in labels]
    return [
        [list(pair) for pair in zip(_row(names), _row(values))]  # noqa: B905 - Python 3.8
        for names, values in zip(labels, scores)  # noqa: B905
    ]


def regressed(outputs: Mapping[str, Any]) -> list[Any]:
    """For each example, its one value."""
    values = outputs.get(VALUES)
    if values is None:
        raise Unfit(f"The signature does not answer '{VALUES}'.")
    rows = [_row(one) for one in values]
    if any(len(row) != 1 for row in rows):
        raise Unfit(f"'{VALUES}' must be one value for each example.")
    return [row[0] for row in rows]


def _row(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _serialized(tensorflow: Any, features: Mapping[str, Any]) -> bytes:
    train = tensorflow.train
    made = {name: _feature(train, name, value) for name, value in features.items()}
    return train.Example(features=train.Features(feature=made)).SerializeToString()


def _feature(train: Any, name: str, value: Any) -> Any:
    """Whole numbers are int64, those with a fraction float, text and {"b64": ...} bytes."""
    values = value if isinstance(value, list) else [value]
    if values and all(_is_bytes(one) for one in values):
        return train.Feature(
            bytes_list=train.BytesList(value=[_bytes(name, one) for one in values])
        )
    if not all(isinstance(one, (int, float)) for one in values):
        raise Unfit(f"The feature {name} must be numbers, or text, and not both.")
    if all(isinstance(one, int) for one in values):
        return train.Feature(int64_list=train.Int64List(value=[int(one) for one in values]))
    return train.Feature(float_list=train.FloatList(value=values))


def _is_bytes(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and set(value) == {"b64"})


def _bytes(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (TypeError, binascii.Error) as problem:
        raise Unfit(f"The b64 value of the feature {name} is not valid: {problem}") from problem
