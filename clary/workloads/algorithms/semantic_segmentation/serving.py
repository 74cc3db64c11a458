"""Serving a segmentation: a PNG of class numbers, or a record of every class's probability."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from clary.workloads.algorithms.semantic_segmentation.network import Segmenter
from clary.workloads.algorithms.semantic_segmentation.pixels import fitted
from clary.workloads.algorithms.semantic_segmentation.training import FILE, NAME
from clary.workloads.algorithms.vision import weights
from clary.workloads.algorithms.vision.requests import ImageHandler, chosen_accept, picture, placed
from clary.workloads.formats import protobuf_wire as wire
from clary.workloads.formats.recordio_protobuf import FIELDS, MAGIC
from clary.workloads.serving.handlers import Rejected

PNG, PROTOBUF = "image/png", "application/x-protobuf"
RECORDIO = "application/x-recordio-protobuf"
VALUES_MAX = 200_000_000


class Painter:
    """Answers at the size of the request's image."""

    batchable = False

    def __init__(self, network: Segmenter, base: int) -> None:
        self.network, self.device = placed(network)
        self.base = base
        self.classes = network.classifier.out_channels

    def decode(self, body: bytes, content_type: str) -> Any:
        image = picture(body, content_type)
        if image.width * image.height * self.classes > VALUES_MAX:
            raise Rejected(
                400,
                f"unable to evaluate payload provided: an image of {image.width} x {image.height} "
                f"pixels is too large for {self.classes} classes",
            )
        return fitted(image, self.base), (image.height, image.width)

    @torch.no_grad()
    def predict(self, rows: Any) -> np.ndarray:
        """The probabilities: classes, height, width."""
        pixels, size = rows
        scores, _ = self.network(torch.from_numpy(pixels)[None].to(self.device))
        scores = functional.interpolate(scores, size=size, mode="bilinear", align_corners=False)
        return torch.softmax(scores[0], dim=0).cpu().numpy()

    def encode(self, results: np.ndarray, accept: str) -> tuple[str, bytes]:
        kind, _ = chosen_accept(accept, (PNG, PROTOBUF, RECORDIO))
        if kind == PNG:
            target = io.BytesIO()
            Image.fromarray(results.argmax(axis=0).astype(np.uint8)).save(target, "PNG")
            return kind, target.getvalue()
        payload = record(results)
        if kind == PROTOBUF:
            return kind, payload
        head = struct.pack("<II", MAGIC, len(payload))
        return kind, head + payload + bytes(-len(payload) % 4)


def record(probabilities: np.ndarray) -> bytes:
    """An `aialgs.data.Record`: the feature `target` holds all numbers, `shape` their axes."""
    shape = b"".join(wire.varint(side) for side in (1, *probabilities.shape))
    numbers = probabilities.astype("<f4").tobytes()
    return _feature("target", FIELDS["<f4"], numbers) + _feature("shape", FIELDS["<i4"], shape)


def _feature(name: str, field: int, packed: bytes) -> bytes:
    value = wire.chunk(field, wire.chunk(1, packed))
    return wire.chunk(1, wire.chunk(1, name.encode()) + wire.chunk(2, value))


def load(folder: Path) -> ImageHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    found = weights.load_for_serving(folder, FILE, NAME)
    try:
        document = found.document
        layers = int(document["backbone"].rpartition("-")[2])
        network = Segmenter(
            document["algorithm"], layers, int(document["num_classes"]), int(document["width"])
        )
        base = int(document["base_size"])
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise Rejected(500, f"Unable to load model: {found.source}: {problem}") from problem
    weights.restore(network, found)
    return ImageHandler(Painter(network, base))
