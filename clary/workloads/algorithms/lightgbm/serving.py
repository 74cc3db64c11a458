"""Serving LightGBM: probabilities of all classes, or a number for each row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np

from clary.workloads.algorithms.lightgbm.training import MODEL
from clary.workloads.algorithms.tabular import model_document, problems
from clary.workloads.algorithms.tabular.numeric_rows import decode
from clary.workloads.algorithms.tabular.problems import Problem
from clary.workloads.algorithms.tabular.serving import PredictionHandler
from clary.workloads.serving.handlers import Rejected


class Trees:
    """One booster."""

    def __init__(self, booster: lightgbm.Booster, problem: Problem) -> None:
        self.booster, self.problem = booster, problem
        self.features = booster.num_feature()

    def decode(self, body: bytes) -> np.ndarray:
        # As training has read them: a split may lie between a number and its float32.
        return decode(body, self.features).astype(np.float32)

    def predict(self, rows: Any) -> np.ndarray:
        found = np.asarray(self.booster.predict(rows, num_threads=1))
        return np.column_stack([1 - found, found]) if self.problem.kind == "binary" else found


def load(folder: Path) -> PredictionHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    try:
        booster = joblib.load(folder / MODEL)
    except Exception as problem:
        # A pickle may raise anything at all.
        raise Rejected(500, f"Unable to load model: {problem}") from problem
    if not isinstance(booster, lightgbm.Booster):
        raise Rejected(500, f"Unable to load model: {MODEL} holds no LightGBM booster")
    return PredictionHandler(Trees(booster, _problem(folder, booster)))


def _problem(folder: Path, booster: lightgbm.Booster) -> Problem:
    """As training has left it; a model from elsewhere says its objective itself."""
    if (folder / model_document.NAME).exists():
        return problems.from_document(model_document.load(folder, "lightgbm"))
    objective = str(booster.params.get("objective", "regression"))
    classes = booster.num_model_per_iteration()
    if classes > 1:
        return Problem(problems.MULTICLASS, tuple(range(classes)))
    return Problem(problems.BINARY, (0, 1)) if objective == "binary" else Problem("regression")
