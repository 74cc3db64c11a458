"""Serving CatBoost: probabilities of all classes, or a number for each row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import catboost
import numpy as np

from clary.workloads.algorithms.catboost.training import MODEL
from clary.workloads.algorithms.tabular import frames, model_document, problems
from clary.workloads.algorithms.tabular.problems import Problem
from clary.workloads.algorithms.tabular.serving import PredictionHandler
from clary.workloads.serving.handlers import Rejected


class Trees:
    """One model."""

    def __init__(self, model: catboost.CatBoost, problem: Problem) -> None:
        self.model, self.problem = model, problem
        self.features = len(model.feature_names_ or ())
        self.categorical = tuple(model.get_cat_feature_indices())

    def decode(self, body: bytes) -> np.ndarray:
        return frames.decode(body, self.features, self.categorical)

    def predict(self, rows: Any) -> np.ndarray:
        kind = "RawFormulaVal" if self.problem.is_regression else "Probability"
        pool = catboost.Pool(rows, cat_features=list(self.categorical))
        return np.asarray(self.model.predict(pool, prediction_type=kind, thread_count=1))


def load(folder: Path) -> PredictionHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    model = catboost.CatBoost()
    try:
        model.load_model(str(folder / MODEL), format="cbm")
    except (catboost.CatBoostError, OSError) as problem:
        raise Rejected(500, f"Unable to load model: {problem}") from problem
    return PredictionHandler(Trees(model, _problem(folder, model)))


def _problem(folder: Path, model: catboost.CatBoost) -> Problem:
    """As training has left it; a model from elsewhere says its loss itself."""
    if (folder / model_document.NAME).exists():
        return problems.from_document(model_document.load(folder, "catboost"))
    classes = np.asarray(model.classes_).tolist()
    if not classes:
        return Problem(problems.REGRESSION)
    kind = problems.BINARY if len(classes) == 2 else problems.MULTICLASS
    return Problem(kind, tuple(classes))
