"""Masks: an image's class of every pixel, as the grey values of a PNG file."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.vision.samples import FOLDER_DEPTH_MAX, Blob, Sample

IGNORED = 255  # pixels that belong to no class
SUFFIXES = (".jpg", ".jpeg", ".png")


def paired(images: Channel, masks: Channel) -> list[Sample]:
    """The images of a channel, each with the mask of the same name."""
    by_name = {_stem(path, masks.path): path for path in _pictures(masks)}
    found = []
    for path in _pictures(images):
        stem = _stem(path, images.path)
        if stem not in by_name:
            raise ClientError(
                f"The image '{path.name}' in channel '{images.name}' has no mask: there is no "
                f"'{stem}.png' in channel '{masks.name}'."
            )
        mask = by_name[stem]
        found.append(Sample(Blob(path.name, path), Blob(mask.name, mask)))
    return found


def _pictures(channel: Channel) -> list[Path]:
    files = channel.files(FOLDER_DEPTH_MAX)
    return [path for path in files if path.suffix.lower() in SUFFIXES]


def _stem(path: Path, root: Path) -> str:
    return str(path.relative_to(root).with_suffix(""))


def label_map(channel: Channel | None, name: str) -> np.ndarray | None:
    """What each grey value of a mask means, for `train` or `validation`; None: what it says."""
    path = channel.path / f"{name}_label_map.json" if channel else None
    if path is None or not path.is_file():
        return None
    table = np.arange(256, dtype=np.int64)
    try:
        document = json.loads(path.read_bytes())
        if "scale" in document:
            table = table // int(document["scale"])
            table[IGNORED] = IGNORED
        for value, meaning in document.get("map", {}).items():
            table[int(value)] = int(meaning)
    except (ValueError, TypeError, KeyError, IndexError, ZeroDivisionError) as problem:
        raise ClientError(f"The label map '{path.name}' cannot be read: {problem}") from problem
    return table


def decode(blob: Blob, classes: int, table: np.ndarray | None) -> Image.Image:
    """The mask with class numbers as its values; raise ClientError if one is too large."""
    try:
        with Image.open(io.BytesIO(blob.read())) as image:
            if image.mode not in ("L", "P", "1", "I", "I;16"):
                raise ClientError(
                    f"The mask '{blob.name}' is a picture of mode {image.mode}; masks are PNG "
                    "files with one channel, whose values are class numbers."
                )
            values = np.asarray(image).astype(np.int64)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise ClientError(f"The mask '{blob.name}' cannot be decoded: it is no PNG file.") from None
    if table is not None:
        values = table[values.clip(0, 255)]
    wrong = np.unique(values[(values >= classes) & (values != IGNORED) | (values < 0)])
    if wrong.size:
        raise ClientError(
            f"The mask '{blob.name}' has the value {wrong[0]}: num_classes is {classes}, so values "
            f"are 0 to {classes - 1}, and {IGNORED} for pixels that do not count."
        )
    return Image.fromarray(values.astype(np.uint8))


def scores(confusion: np.ndarray) -> Mapping[str, float]:
    """Of a matrix of how many pixels of a class (row) were said to be of a class (column)."""
    hits, total = np.diag(confusion), max(float(confusion.sum()), 1.0)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    seen = union > 0
    ratio = hits[seen] / union[seen]
    return {
        "mIOU": float(ratio.mean()) if seen.any() else 0.0,
        "pixel_accuracy": float(hits.sum() / total),
    }
