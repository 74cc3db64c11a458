"""Serving a random cut forest: one anomaly score for each row."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clary.workloads.algorithms.first_party import model_files, requests
from clary.workloads.algorithms.first_party.serving import TabularHandler
from clary.workloads.algorithms.randomcutforest.forest import ARRAYS, Forest
from clary.workloads.serving.handlers import Rejected


class Scores:
    """A forest that answers requests."""

    content_types = requests.ALL
    list_name = "scores"
    csv_columns = ("score",)

    def __init__(self, forest: Forest) -> None:
        self.forest = forest
        self.features: int = forest.low.shape[1]

    def predict(self, rows: Any) -> np.ndarray:
        dense = rows if isinstance(rows, np.ndarray) else rows.toarray()
        return self.forest.scores(dense)[:, None]

    def columns(self, results: np.ndarray, *, verbose: bool) -> Mapping[str, np.ndarray]:
        return {"score": results[:, 0]}


def load(folder: Path) -> TabularHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    artifact = model_files.load(folder, "randomcutforest")
    try:
        arrays = {name: artifact.arrays[name] for name in ARRAYS}
        forest = Forest(**arrays, trees=int(artifact.document["trees"]))
    except (KeyError, TypeError, ValueError) as problem:
        raise Rejected(500, f"Unable to load model: {problem}") from problem
    return TabularHandler(Scores(forest), os.environ)
