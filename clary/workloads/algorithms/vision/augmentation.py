"""Augmentation: pictures changed a little at random, so that a network learns what stays."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

HUE_DEGREES_MAX = 36
SATURATION_MAX = 50 / 255
LIGHTNESS_MAX = 50 / 255
ROTATION_DEGREES_MAX = 10
SHEAR_MAX = 0.1
ASPECT_MAX = 0.25


def shorter_side(image: Image.Image, length: int) -> Image.Image:
    """Scaled so that its shorter side has `length` pixels."""
    scale = length / min(image.size)
    width, height = (max(length, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def center_crop(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def random_crop(
    image: Image.Image, width: int, height: int, random: np.random.Generator
) -> Image.Image:
    left = int(random.integers(0, image.width - width + 1))
    top = int(random.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def random_mirror(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(image) if random.random() < 0.5 else image


def random_color(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Another hue, saturation and lightness; of a grey picture the lightness alone."""
    image = ImageEnhance.Brightness(image).enhance(1 + random.uniform(-1, 1) * LIGHTNESS_MAX)
    if image.mode != "RGB":
        return image
    image = ImageEnhance.Color(image).enhance(1 + random.uniform(-1, 1) * SATURATION_MAX)
    turn = int(random.uniform(-1, 1) * HUE_DEGREES_MAX / 360 * 256)
    hue, *others = image.convert("HSV").split()
    turned = Image.fromarray(((np.asarray(hue, dtype=np.int16) + turn) % 256).astype(np.uint8))
    return Image.merge("HSV", (turned, *others)).convert("RGB")


def random_transform(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Turned, sheared and stretched around its centre."""
    angle = math.radians(random.uniform(-1, 1) * ROTATION_DEGREES_MAX)
    shear = random.uniform(-1, 1) * SHEAR_MAX
    stretch = 1 + random.uniform(-1, 1) * ASPECT_MAX
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = turn @ np.array([[1, shear], [0, 1]]) @ np.diag([stretch, 1 / stretch])
    center = np.array(image.size) / 2
    moved = center - matrix @ center
    rows = np.column_stack([matrix, moved]).ravel().tolist()
    return image.transform(
        image.size, Image.Transform.AFFINE, rows, resample=Image.Resampling.BILINEAR
    )
