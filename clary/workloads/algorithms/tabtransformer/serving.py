"""Serving the TabTransformer: probabilities of all classes, or a number for each row."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clary.workloads.algorithms.tabtransformer import encoding
from clary.workloads.algorithms.tabtransformer.network import Shape, TabTransformer
from clary.workloads.algorithms.tabtransformer.training import WEIGHTS
from clary.workloads.algorithms.tabular import frames, model_document, problems
from clary.workloads.algorithms.tabular.serving import PredictionHandler
from clary.workloads.serving.handlers import Rejected


class Network:
    """One network with the encoding of its columns."""

    def __init__(self, network: TabTransformer, document: Mapping[str, Any]) -> None:
        self.network = network.eval()
        self.problem = problems.from_document(document)
        self.columns = encoding.from_document(document["columns"])
        self.mean, self.deviation = document["label_mean"], document["label_deviation"]

    def decode(self, body: bytes) -> np.ndarray:
        return frames.decode(body, self.columns.features, self.columns.categorical)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        codes, numbers = self.columns.encode([rows[:, at] for at in range(rows.shape[1])])
        with torch.inference_mode():
            outputs = self.network(codes, numbers).to(torch.float64)
        if self.problem.is_regression:
            return outputs[:, 0].numpy() * self.deviation + self.mean
        return torch.softmax(outputs, dim=1).numpy()


def load(folder: Path) -> PredictionHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    document = model_document.load(folder, "tabtransformer")
    try:
        network = TabTransformer(Shape(**document["shape"]))
        network.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
        return PredictionHandler(Network(network, document))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, pickle.PickleError) as problem:
        raise Rejected(500, f"Unable to load model: {problem}") from problem
