"""Annotations: the boxes of an image as rows of class, left, top, right, bottom, from 0 to 1."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.vision.samples import FOLDER_DEPTH_MAX, Blob, Sample, inside

COLUMNS = 5


def annotated(images: Channel, annotations: Channel) -> list[Sample]:
    """The images that the JSON files of an annotation channel name, with their boxes."""
    root = images.path.resolve()
    found = []
    for path in annotations.files(FOLDER_DEPTH_MAX):
        if path.suffix != ".json":
            continue
        try:
            document = json.loads(path.read_bytes())
            blob = inside(root, str(document["file"]))
            found.append(Sample(blob, of_document(document)))
        except (ValueError, KeyError, TypeError, IndexError) as problem:
            raise _wrong(path.name, annotations.name, problem) from problem
    return found


def boxes(sample: Sample, channel: str, classes: int) -> np.ndarray:
    """The boxes of a sample; raise ClientError where they cannot be."""
    try:
        rows = sample.label
        if isinstance(rows, Blob):
            document = json.loads(rows.read())
            rows = of_document(json.loads(document) if isinstance(document, str) else document)
        elif rows.ndim == 1:
            rows = of_record(rows)
    except (ValueError, KeyError, TypeError, IndexError) as problem:
        raise _wrong(sample.image.name, channel, problem) from problem
    for number in rows[:, 0]:
        if not 0 <= number < classes or number != int(number):
            raise ClientError(
                f"The class_id {number:g} of image '{sample.image.name}' in channel '{channel}' is "
                f"not a class number: num_classes is {classes}, so they are 0 to {classes - 1}."
            )
    return rows


def of_document(document: Mapping[str, Any]) -> np.ndarray:
    """Of the JSON that SageMaker's labelling jobs write: boxes in pixels, and the image's size."""
    size = document["image_size"][0]
    width, height = float(size["width"]), float(size["height"])
    if width <= 0 or height <= 0:
        raise ValueError(f"image_size is {width:g} x {height:g}")
    rows = [
        (
            float(one["class_id"]),
            float(one["left"]) / width,
            float(one["top"]) / height,
            (float(one["left"]) + float(one["width"])) / width,
            (float(one["top"]) + float(one["height"])) / height,
        )
        for one in document["annotations"]
    ]
    return _sound(np.array(rows, dtype=np.float32).reshape(-1, COLUMNS))


def of_record(labels: np.ndarray) -> np.ndarray:
    """Of a record: the widths of its header and of a box, the header's rest, the boxes."""
    if len(labels) < 2:
        raise ValueError("a record has the width of its header and that of a box as first labels")
    header, width = int(labels[0]), int(labels[1])
    if header < 2 or width < COLUMNS or (len(labels) - header) % width:
        raise ValueError(
            f"{len(labels)} labels are no header of {header} and boxes of {width} numbers"
        )
    rows = labels[header:].reshape(-1, width)[:, :COLUMNS]
    # Writers pad the labels of a record with boxes of class -1.
    return _sound(rows[rows[:, 0] >= 0].astype(np.float32))


def _sound(rows: np.ndarray) -> np.ndarray:
    if not np.isfinite(rows).all():
        raise ValueError("a box has a number that is not finite")
    rows[:, 1:] = rows[:, 1:].clip(0, 1)
    if (rows[:, 3:] <= rows[:, 1:3]).any():
        raise ValueError("a box is empty or lies outside of its image")
    return rows


def _wrong(name: str, channel: str, problem: Exception) -> ClientError:
    text = f"{problem} is missing" if isinstance(problem, KeyError) else str(problem)
    return ClientError(
        f"Unable to read the annotations of '{name}' in channel '{channel}': {text}."
    )
