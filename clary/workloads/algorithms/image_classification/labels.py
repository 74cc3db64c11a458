"""Labels as targets: one class number, or a zero or a one for each class."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.vision.samples import Blob, Sample

MULTI_HOT, CLASS_ID = "multi-hot", "class-id"


def targets(
    found: Sequence[Sample], channel: str, values: Mapping[str, Any], label_format: str
) -> np.ndarray:
    """One row a sample: int64 numbers, or float32 vectors where images have several classes."""
    classes = values["num_classes"]
    if label_format not in (MULTI_HOT, CLASS_ID):
        raise ClientError(
            f"Channel '{channel}': label-format is '{label_format}', not {MULTI_HOT} or {CLASS_ID}."
        )
    numbers = [_numbers(sample, channel) for sample in found]
    if values["multi_label"] == "0":
        chosen = [_one(row, one, channel, classes) for row, one in zip(numbers, found)]  # noqa: B905 - same length
        return np.array(chosen, dtype=np.int64)
    turn = _hot if label_format == MULTI_HOT else _of_ids
    rows = [turn(row, one, channel, classes) for row, one in zip(numbers, found)]  # noqa: B905 - same length
    return np.array(rows, dtype=np.float32).reshape(len(found), classes)


def _numbers(sample: Sample, channel: str) -> np.ndarray:
    """The labels of a sample; those of a manifest are JSON."""
    if not isinstance(sample.label, Blob):
        return sample.label
    content = sample.label.read()
    try:
        value = json.loads(content)
        value = json.loads(value) if isinstance(value, str) else value
        return np.atleast_1d(np.array(value, dtype=np.float32))
    except (ValueError, TypeError):
        raise ClientError(
            f"The label of image '{sample.image.name}' in channel '{channel}' is neither a number "
            f"nor a list of numbers: {content[:40]!r}. AttributeNames must be the image's "
            "reference and then the label."
        ) from None


def _one(row: np.ndarray, sample: Sample, channel: str, classes: int) -> int:
    if len(row) != 1:
        raise ClientError(
            f"The image '{sample.image.name}' in channel '{channel}' has {len(row)} labels. Set "
            "multi_label=1 to train on several."
        )
    return _class(row[0], sample, channel, classes)


def _class(value: float, sample: Sample, channel: str, classes: int) -> int:
    number = int(value) if np.isfinite(value) else -1
    if number != value or not 0 <= number < classes:
        raise ClientError(
            f"The label {float(value):g} of image '{sample.image.name}' in channel '{channel}' is "
            f"not a class number: num_classes is {classes}, so labels are 0 to {classes - 1}."
        )
    return number


def _hot(row: np.ndarray, sample: Sample, channel: str, classes: int) -> np.ndarray:
    if len(row) != classes or not np.isin(row, (0, 1)).all():
        raise ClientError(
            f"The image '{sample.image.name}' in channel '{channel}' has {len(row)} labels; with "
            f"multi_label=1 each has a 0 or a 1 for each of the {classes} classes. Say "
            "'label-format=class-id' in the ContentType if they are class numbers."
        )
    return row


def _of_ids(row: np.ndarray, sample: Sample, channel: str, classes: int) -> np.ndarray:
    hot = np.zeros(classes, dtype=np.float32)
    hot[[_class(value, sample, channel, classes) for value in row]] = 1
    return hot
