"""Serving PCA: the coordinates of a row along the principal components."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clary.workloads.algorithms.first_party import model_files, requests
from clary.workloads.algorithms.first_party.serving import TabularHandler


class Projection:
    """The components of a model."""

    content_types = requests.ALL
    list_name = "projections"
    csv_columns = ("projection",)

    def __init__(self, mean: np.ndarray, vectors: np.ndarray) -> None:
        self.vectors = vectors.astype(np.float64)
        self.offset = mean.astype(np.float64) @ self.vectors
        self.features: int = vectors.shape[0]

    def predict(self, rows: Any) -> np.ndarray:
        return rows @ self.vectors - self.offset

    def columns(self, results: np.ndarray, *, verbose: bool) -> Mapping[str, np.ndarray]:
        return {"projection": results}


def load(folder: Path) -> TabularHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    artifact = model_files.load(folder, "pca")
    return TabularHandler(Projection(artifact.arrays["mean"], artifact.arrays["v"]), os.environ)
