"""Serving an image classifier: the probability of each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from clary.workloads.algorithms.image_classification.pixels import Shape, scaled
from clary.workloads.algorithms.image_classification.training import NAME
from clary.workloads.algorithms.vision import weights
from clary.workloads.algorithms.vision.requests import (
    JSON_LINES,
    ImageHandler,
    as_json,
    chosen_accept,
    picture,
    placed,
)
from clary.workloads.algorithms.vision.resnet import ResNet
from clary.workloads.serving.handlers import Rejected


class Classifier:
    """Images of several requests are answered together."""

    batchable = True

    def __init__(self, network: ResNet, shape: Shape, *, is_multi: bool) -> None:
        self.network, self.device = placed(network)
        self.shape, self.is_multi = shape, is_multi

    def decode(self, body: bytes, content_type: str) -> np.ndarray:
        return scaled(picture(body, content_type, self.shape.mode), self.shape)[None]

    @torch.no_grad()
    def predict(self, rows: np.ndarray) -> np.ndarray:
        scores = self.network(torch.from_numpy(rows).to(self.device)).float()
        found = torch.sigmoid(scores) if self.is_multi else torch.softmax(scores, dim=1)
        return found.cpu().numpy().astype(np.float64)

    def encode(self, results: np.ndarray, accept: str) -> tuple[str, bytes]:
        kind, _ = chosen_accept(accept)
        probabilities = results[0].tolist()
        if kind == JSON_LINES:
            return kind, as_json({"prediction": probabilities}) + b"\n"
        return kind, as_json(probabilities)


def load(folder: Path) -> ImageHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    found = weights.load_for_serving(folder, f"{NAME}-*.params", NAME)
    try:
        document = found.document
        shape = Shape.parse(document["image_shape"])
        layers, classes = int(document["num_layers"]), int(document["num_classes"])
        is_multi = document["multi_label"] == "1"
    except (KeyError, TypeError, ValueError) as problem:
        raise Rejected(500, f"Unable to load model: {found.source}: {problem}") from problem
    network = ResNet(layers, classes, shape.channels)
    weights.restore(network, found)
    return ImageHandler(Classifier(network, shape, is_multi=is_multi))
