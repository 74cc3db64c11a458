"""Serving a detector: each thing that is found, with its class, score and box."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from clary.workloads.algorithms.object_detection.network import Detector
from clary.workloads.algorithms.object_detection.pixels import scaled
from clary.workloads.algorithms.object_detection.training import FILE, NAME, detected
from clary.workloads.algorithms.vision import weights
from clary.workloads.algorithms.vision.requests import (
    JSON_LINES,
    ImageHandler,
    as_json,
    chosen_accept,
    picture,
    placed,
)
from clary.workloads.serving.handlers import Rejected


class Finder:
    """Images of several requests are looked at together."""

    batchable = True

    def __init__(self, network: Detector, side: int, nms_threshold: float) -> None:
        self.network, self.device = placed(network)
        # The size of the request's image goes with its pixels: boxes may be asked for in pixels.
        self.row = np.dtype([("pixels", "<f4", (3, side, side)), ("size", "<i8", (2,))])
        self.side, self.nms_threshold = side, nms_threshold

    def decode(self, body: bytes, content_type: str) -> np.ndarray:
        image = picture(body, content_type)
        rows = np.empty(1, dtype=self.row)
        rows["pixels"], rows["size"] = scaled(image, self.side), image.size
        return rows

    def predict(self, rows: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(np.ascontiguousarray(rows["pixels"])).to(self.device)
        found = np.empty(len(rows), dtype=object)
        for at, boxes in enumerate(detected(self.network, images, self.nms_threshold)):
            found[at] = (boxes, rows["size"][at].tolist())
        return found

    def encode(self, results: np.ndarray, accept: str) -> tuple[str, bytes]:
        kind, parameters = chosen_accept(accept)
        boxes, (width, height) = results[0]
        if parameters.get("annotation") == "1":
            answer: dict[str, Any] = _annotated(boxes, width, height)
        else:
            answer = {"prediction": boxes.astype(float).tolist()}
        return kind, as_json(answer) + (b"\n" if kind == JSON_LINES else b"")


def _annotated(boxes: np.ndarray, width: int, height: int) -> dict[str, Any]:
    """As annotations of a training have it: in pixels, with the score beside."""
    scale = np.array([width, height, width, height])
    return {
        "image_size": [{"width": width, "height": height, "depth": 3}],
        "annotations": [
            {
                "class_id": int(row[0]),
                "score": float(row[1]),
                "left": int(left),
                "top": int(top),
                "width": int(right - left),
                "height": int(bottom - top),
            }
            for row in boxes
            for left, top, right, bottom in [np.rint(row[2:] * scale)]
        ],
    }


def load(folder: Path) -> ImageHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    found = weights.load_for_serving(folder, FILE, NAME)
    try:
        document = found.document
        network = Detector(
            document["base_network"], int(document["num_classes"]), int(document["width"])
        )
        side, threshold = int(document["image_shape"]), float(document["nms_threshold"])
    except (KeyError, TypeError, ValueError) as problem:
        raise Rejected(500, f"Unable to load model: {found.source}: {problem}") from problem
    weights.restore(network, found)
    return ImageHandler(Finder(network, side, threshold))
