"""Serving k-means: the closest centre and how far it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clary.workloads.algorithms.first_party import model_files, requests
from clary.workloads.algorithms.first_party.serving import TabularHandler
from clary.workloads.algorithms.kmeans import centers as geometry


class Clusters:
    """The centres of a model."""

    content_types = requests.ALL
    list_name = "predictions"
    csv_columns = ("closest_cluster", "distance_to_cluster")

    def __init__(self, centers: np.ndarray) -> None:
        self.centers = centers
        self.features: int = centers.shape[1]

    def predict(self, rows: Any) -> np.ndarray:
        labels, squares = geometry.nearest(rows, self.centers)
        return np.column_stack([labels, np.sqrt(squares)])

    def columns(self, results: np.ndarray, *, verbose: bool) -> Mapping[str, np.ndarray]:
        return {"closest_cluster": results[:, 0], "distance_to_cluster": results[:, 1]}


def load(folder: Path) -> TabularHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    artifact = model_files.load(folder, "kmeans")
    return TabularHandler(Clusters(artifact.arrays["centroids"]), os.environ)
