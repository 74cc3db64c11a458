"""Serving the linear learner: scores, and the label that each of them means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from clary.workloads.algorithms.first_party import model_files, requests
from clary.workloads.algorithms.first_party.serving import TabularHandler


class Linear:
    """A model that answers requests."""

    content_types = requests.ALL
    list_name = "predictions"
    csv_columns = ("score",)

    def __init__(self, artifact: model_files.Artifact) -> None:
        document = artifact.document
        self.weights = artifact.arrays["weights"]
        self.bias = artifact.arrays["bias"]
        self.features: int = self.weights.shape[0]
        self.predictor_type: str = document["predictor_type"]
        self.link: str = document["link"]
        self.threshold = float(document["threshold"])

    def predict(self, rows: Any) -> np.ndarray:
        margins = rows @ self.weights + self.bias
        if self.link == "logistic":
            return expit(margins)
        if self.link == "softmax":
            chances = np.exp(margins - margins.max(axis=1, keepdims=True))
            return chances / chances.sum(axis=1, keepdims=True)
        return margins

    def columns(self, results: np.ndarray, *, verbose: bool) -> Mapping[str, np.ndarray]:
        if self.predictor_type == "multiclass_classifier":
            return {"score": results, "predicted_label": results.argmax(axis=1)}
        score = results[:, 0]
        if self.predictor_type == "regressor":
            return {"score": score}
        return {"score": score, "predicted_label": (score >= self.threshold).astype(np.int64)}


def load(folder: Path) -> TabularHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    return TabularHandler(Linear(model_files.load(folder, "linear-learner")), os.environ)
