"""How good a linear model is, under the names of the linear learner's log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from clary.workloads.algorithms.first_party.scores import (
    Quality,
    f_beta,
    precision_recall,
    regression_scores,
)


def qualities(
    scores: np.ndarray, labels: np.ndarray, values: Mapping[str, Any], threshold: float
) -> list[Quality]:
    """Of the model's answers: probabilities or margins, a row of them for several classes."""
    if values["predictor_type"] == "regressor":
        return regression_scores(scores[:, 0], labels)
    if values["predictor_type"] == "binary_classifier":
        return _binary(scores[:, 0], labels > 0.5, threshold, values["f_beta"])
    return _classes(scores, labels.astype(np.int64), values)


def _binary(scores: np.ndarray, truth: np.ndarray, threshold: float, beta: float) -> list[Quality]:
    found = scores >= threshold
    precision, recall = precision_recall(found, truth)
    _, specificity = precision_recall(~found, ~truth)
    results = {
        "binary_classification_accuracy": float((found == truth).mean()),
        f"binary_f_{beta:.3f}": f_beta(found, truth, beta),
        "precision": precision,
        "recall": recall,
        "roc_auc_score": _area(scores, truth),
        "binary_balanced_accuracy": (recall + specificity) / 2,
    }
    return [Quality(name, value, maximize=True) for name, value in results.items()]


def _area(scores: np.ndarray, truth: np.ndarray) -> float:
    """The area under the ROC curve, by steps; one half where there is only one class."""
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return 0.5
    order = np.argsort(scores, kind="stable")
    ranked, hit = scores[order], truth[order]
    del order
    # Equal scores are one step of the curve, which ends where the next one is larger.
    is_end = np.append(ranked[1:] != ranked[:-1], True)
    hits = np.cumsum(hit)[is_end]
    misses = np.flatnonzero(is_end) + 1 - hits
    misses[1:] += misses[:-1].copy()
    hits[1:] -= hits[:-1].copy()
    return float(hits @ misses) / 2 / (positives * negatives)


def _classes(scores: np.ndarray, labels: np.ndarray, values: Mapping[str, Any]) -> list[Quality]:
    classes, top = scores.shape[1], min(values["accuracy_top_k"], scores.shape[1])
    found = scores.argmax(axis=1)
    own = scores[np.arange(len(labels)), labels]
    place = (scores > own[:, None]).sum(axis=1)
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (labels, found), 1)
    hits = np.diag(confusion).astype(np.float64)
    present = confusion.sum(axis=1) > 0
    recalls = hits / np.maximum(confusion.sum(axis=1), 1)
    precisions = hits / np.maximum(confusion.sum(axis=0), 1)
    beta = values["f_beta"]
    below = beta**2 * precisions + recalls
    fs = np.where(below > 0, (1 + beta**2) * precisions * recalls / np.maximum(below, 1e-300), 0)
    results = {
        "multiclass_accuracy": float((found == labels).mean()),
        f"multiclass_top_k_accuracy_{top}": float((place < top).mean()),
        "dcg": float((1 / np.log2(place + 2)).mean()),
        "macro_recall": float(recalls[present].mean()),
        "macro_precision": float(precisions[present].mean()),
        f"macro_f_{beta:.3f}": float(fs[present].mean()),
    }
    return [Quality(name, value, maximize=True) for name, value in results.items()]
