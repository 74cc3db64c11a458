"""Metrics that XGBoost lacks, computed from its predictions with scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def evaluator(
    names: Sequence[str], objective: str
) -> Callable[[np.ndarray, Any], list[tuple[str, float]]] | None:
    """A function for `xgboost.train(custom_metric=...)`; None where no name is computed here."""
    if not names:
        return None

    def evaluate(predictions: np.ndarray, matrix: Any) -> list[tuple[str, float]]:
        labels = matrix.get_label()
        return [(name, score(name, labels, predictions, objective)) for name in names]

    return evaluate


def score(name: str, labels: np.ndarray, predictions: np.ndarray, objective: str) -> float:
    """One metric of all rows."""
    from sklearn import metrics

    if name == "mse":
        return float(metrics.mean_squared_error(labels, predictions))
    if name == "r2":
        return float(metrics.r2_score(labels, predictions))
    predicted = predicted_labels(predictions, objective)
    if name == "accuracy":
        return float(metrics.accuracy_score(labels, predicted))
    if name == "balanced_accuracy":
        return float(metrics.balanced_accuracy_score(labels, predicted))
    kind, _, average = name.partition("_")
    compute = {
        "f1": metrics.f1_score,
        "precision": metrics.precision_score,
        "recall": metrics.recall_score,
    }[kind]
    # SageMaker's plain `f1` is the macro average; plain precision and recall are of class 1.
    average = average or ("macro" if kind == "f1" else "binary")
    return float(compute(labels, predicted, average=average, zero_division=0))


def predicted_labels(predictions: np.ndarray, objective: str) -> np.ndarray:
    """The class of each row, from what XGBoost predicts for the objective."""
    if predictions.ndim > 1:
        return np.argmax(predictions, axis=1)
    if objective in ("multi:softmax", "binary:hinge"):
        return predictions
    threshold = 0.0 if objective == "binary:logitraw" else 0.5
    return (predictions > threshold).astype(np.float32)
