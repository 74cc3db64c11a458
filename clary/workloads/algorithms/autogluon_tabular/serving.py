"""Serving AutoGluon: probabilities of all classes, or a number for each row, of the best model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from autogluon.tabular import TabularPredictor

from clary.workloads.algorithms.autogluon_tabular.training import PREDICTOR
from clary.workloads.algorithms.tabular import frames, model_document, problems
from clary.workloads.algorithms.tabular.serving import PredictionHandler
from clary.workloads.serving.handlers import Rejected


class Ensemble:
    """One predictor."""

    def __init__(self, predictor: TabularPredictor, document: Mapping[str, Any]) -> None:
        self.predictor = predictor
        self.problem = problems.from_document(document)
        self.features = int(document["features"])
        self.categorical = tuple(document["categorical"])

    def decode(self, body: bytes) -> np.ndarray:
        return frames.decode(body, self.features, self.categorical)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        table = pandas.DataFrame(rows, columns=[str(at) for at in range(self.features)])
        for at in range(self.features):
            kind = "category" if at in self.categorical else np.float32
            table[str(at)] = table[str(at)].astype(kind)
        if self.problem.is_regression:
            return np.asarray(self.predictor.predict(table), dtype=np.float64)
        found = self.predictor.predict_proba(table, as_multiclass=True)
        return found[list(self.problem.classes)].to_numpy(dtype=np.float64)


def load(folder: Path) -> PredictionHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    document = model_document.load(folder, "autogluon-tabular")
    try:
        predictor = TabularPredictor.load(str(folder / PREDICTOR), verbosity=0)
        predictor.persist()
    except Exception as problem:
        # A pickle may raise anything at all.
        raise Rejected(500, f"Unable to load model: {problem}") from problem
    return PredictionHandler(Ensemble(predictor, document))
