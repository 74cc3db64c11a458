"""Serving a factorization machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clary.workloads.algorithms.factorization_machines.machine import Machine
from clary.workloads.algorithms.first_party import model_files, requests
from clary.workloads.algorithms.first_party.scores import probabilities
from clary.workloads.algorithms.first_party.serving import TabularHandler


class Scores:
    """A machine that answers requests."""

    content_types = (requests.JSON, requests.JSON_LINES, requests.RECORDIO)
    list_name = "predictions"
    csv_columns = ("score",)

    def __init__(self, machine: Machine, *, is_classifier: bool) -> None:
        self.machine, self.is_classifier = machine, is_classifier
        self.features: int = len(machine.linear)

    def predict(self, rows: Any) -> np.ndarray:
        scores = self.machine.scores(rows)
        return (probabilities(scores) if self.is_classifier else scores)[:, None]

    def columns(self, results: np.ndarray, *, verbose: bool) -> Mapping[str, np.ndarray]:
        score = results[:, 0]
        if not self.is_classifier:
            return {"score": score}
        return {"score": score, "predicted_label": (score >= 0.5).astype(np.float64)}


def load(folder: Path) -> TabularHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    artifact = model_files.load(folder, "factorization-machines")
    machine = Machine(
        artifact.arrays["bias"], artifact.arrays["linear"], artifact.arrays["factors"]
    )
    kind = artifact.document["predictor_type"]
    return TabularHandler(Scores(machine, is_classifier=kind == "binary_classifier"), os.environ)
