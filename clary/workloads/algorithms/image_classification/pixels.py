"""Images as the network takes them: cropped or scaled to image_shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.vision import augmentation, pictures
from clary.workloads.algorithms.vision.samples import Blob


@dataclass(frozen=True)
class Shape:
    channels: int
    height: int
    width: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        return cls(*(int(word) for word in text.split(",")))

    @property
    def mode(self) -> str:
        return "L" if self.channels == 1 else "RGB"


def load(
    blob: Blob, shape: Shape, values: Mapping[str, Any], random: np.random.Generator | None
) -> np.ndarray:
    """An image of the training, or, without a `random`, of the validation."""
    image = pictures.decode(blob.read(), blob.name, shape.mode)
    if values["resize"]:
        image = augmentation.shorter_side(image, values["resize"])
    if image.width < shape.width or image.height < shape.height:
        raise ClientError(
            f"The image '{blob.name}' has {image.width} x {image.height} pixels, less than the "
            f"image_shape '{values['image_shape']}' (channels,height,width). Set resize to at "
            f"least {max(shape.width, shape.height)}, or a smaller image_shape."
        )
    kind = values["augmentation_type"]
    if random is None or not kind:
        return pictures.planes(augmentation.center_crop(image, shape.width, shape.height))
    image = augmentation.random_crop(image, shape.width, shape.height, random)
    image = augmentation.random_mirror(image, random)
    if kind != "crop":
        image = augmentation.random_color(image, random)
    if kind == "crop_color_transform":
        image = augmentation.random_transform(image, random)
    return pictures.planes(image)


def scaled(image: Image.Image, shape: Shape) -> np.ndarray:
    """The image of a request, scaled to the shape whatever it was."""
    size = (shape.width, shape.height)
    return pictures.planes(image.resize(size, Image.Resampling.BILINEAR))
