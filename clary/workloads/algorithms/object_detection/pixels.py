"""Images with boxes, changed together: mirrored, shown in part or smaller, in other colours."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from clary.workloads.algorithms.vision import augmentation, pictures
from clary.workloads.algorithms.vision.samples import Blob

AREA_MIN = 0.3
KEPT_SHARE = 0.5  # of a box, for it to count as shown


def load(
    blob: Blob, rows: np.ndarray, side: int, random: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """An image of the training, or, without a `random`, of the validation."""
    image = pictures.decode(blob.read(), blob.name)
    if random is not None:
        if random.random() < 0.5:
            image, rows = mirrored(image, rows)
        if random.random() < 0.5:
            image, rows = part(image, rows, random)
        if random.random() < 0.5:
            image = augmentation.random_color(image, random)
    return scaled(image, side), rows


def scaled(image: Image.Image, side: int) -> np.ndarray:
    return pictures.planes(image.resize((side, side), Image.Resampling.BILINEAR))


def mirrored(image: Image.Image, rows: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    turned = rows.copy()
    turned[:, 1], turned[:, 3] = 1 - rows[:, 3], 1 - rows[:, 1]
    return ImageOps.mirror(image), turned


def part(
    image: Image.Image, rows: np.ndarray, random: np.random.Generator
) -> tuple[Image.Image, np.ndarray]:
    """A window on the image, with the boxes that it shows most of; all of it if it shows none."""
    width, height = random.uniform(AREA_MIN**0.5, 1, 2)
    left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
    origin, size = np.array([left, top]), np.array([width, height])
    low = np.maximum(rows[:, 1:3], origin)
    high = np.minimum(rows[:, 3:], origin + size)
    shown = (high - low).clip(0).prod(axis=1) / (rows[:, 3:] - rows[:, 1:3]).prod(axis=1)
    kept = shown > KEPT_SHARE
    if not kept.any():
        return image, rows
    boxes = np.column_stack(
        [rows[kept, 0], (low[kept] - origin) / size, (high[kept] - origin) / size]
    )
    window = (left, top, left + width, top + height)
    sides = (image.width, image.height) * 2
    pixels = [round(share * side) for share, side in zip(window, sides)]  # noqa: B905 - four
    return image.crop(tuple(pixels)), boxes.astype(np.float32)
