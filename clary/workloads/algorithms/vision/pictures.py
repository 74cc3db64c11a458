"""Pictures: bytes into PIL images and arrays, with an error that names what cannot be read."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from clary.workloads.algorithms.first_party.errors import ClientError

PIXELS_MAX = 100_000_000
# Of the images that most pretrained weights were trained on.
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)


class BrokenImage(ClientError):
    """The bytes are no image."""


def decode(content: bytes, name: str, mode: str = "RGB") -> Image.Image:
    """The whole picture in `mode`; raise BrokenImage."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > PIXELS_MAX:
                raise BrokenImage(
                    f"The image '{name}' has {image.width} x {image.height} pixels; at most "
                    f"{PIXELS_MAX} can be read."
                )
            return image.convert(mode)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise BrokenImage(
            f"The image '{name}' cannot be decoded: it is damaged, or neither JPEG nor PNG. "
            "Replace it or take it out of the channel."
        ) from None


def planes(image: Image.Image) -> np.ndarray:
    """Channels first, as the networks take them: float32 around zero."""
    pixels = np.asarray(image, dtype=np.float32) / 255
    if pixels.ndim == 2:
        return ((pixels - MEAN.mean()) / DEVIATION.mean())[None]
    return np.ascontiguousarray(((pixels - MEAN) / DEVIATION).transpose(2, 0, 1))
