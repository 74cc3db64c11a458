"""Images with masks, scaled, mirrored and cropped together."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from clary.workloads.algorithms.semantic_segmentation.masks import IGNORED
from clary.workloads.algorithms.semantic_segmentation.network import STRIDE
from clary.workloads.algorithms.vision import augmentation, pictures

SCALE_LEAST, SCALE_MOST = 0.5, 2.0
Pair = tuple[np.ndarray, np.ndarray]


def shown(
    image: Image.Image, mask: Image.Image, base: int, crop: int, random: np.random.Generator
) -> Pair:
    """A square of `crop` pixels out of the image at a random scale around `base`."""
    image = augmentation.shorter_side(image, round(base * random.uniform(SCALE_LEAST, SCALE_MOST)))
    mask = mask.resize(image.size, Image.Resampling.NEAREST)
    if random.random() < 0.5:
        image, mask = ImageOps.mirror(image), ImageOps.mirror(mask)
    size = (max(image.width, crop), max(image.height, crop))
    if size != image.size:
        image, mask = _padded(image, size, 0), _padded(mask, size, IGNORED)
    left = int(random.integers(0, image.width - crop + 1))
    top = int(random.integers(0, image.height - crop + 1))
    window = (left, top, left + crop, top + crop)
    return pictures.planes(image.crop(window)), np.array(mask.crop(window), dtype=np.int64)


def whole(image: Image.Image, mask: Image.Image, crop: int) -> Pair:
    """The middle of the image, for the validation: a batch has one size."""
    image = augmentation.shorter_side(image, crop)
    mask = mask.resize(image.size, Image.Resampling.NEAREST)
    image = augmentation.center_crop(image, crop, crop)
    mask = augmentation.center_crop(mask, crop, crop)
    return pictures.planes(image), np.array(mask, dtype=np.int64)


def fitted(image: Image.Image, base: int) -> np.ndarray:
    """The image of a request, no larger than `base` on its shorter side."""
    scale = min(1.0, base / min(image.size))
    width, height = (max(STRIDE, round(side * scale)) for side in image.size)
    return pictures.planes(image.resize((width, height), Image.Resampling.BILINEAR))


def _padded(image: Image.Image, size: tuple[int, int], value: int) -> Image.Image:
    color = (value,) * 3 if image.mode == "RGB" else value
    canvas = Image.new(image.mode, size, color)
    canvas.paste(image)
    return canvas
