"""Which model is best, and from which score on it says yes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Choice:
    """A threshold on the scores, and how good it is by the criterion; more is better."""

    threshold: float
    merit: float


def best_threshold(
    scores: np.ndarray, labels: np.ndarray, values: Mapping[str, Any], middle: float
) -> Choice:
    """The threshold that the selection criterion likes best.

    `middle` is what a score says without calibration (one half, or zero); of thresholds that are
    equally good it is the one nearest to that.
    """
    order = np.argsort(scores)[::-1]
    ranked, truth = scores[order].astype(np.float64), labels[order] > 0.5
    hits = np.concatenate([[0], np.cumsum(truth)]).astype(np.float64)
    said = np.arange(len(ranked) + 1, dtype=np.float64)
    positives, count = hits[-1], float(len(ranked))
    # Equal scores cannot be told apart.
    splits = np.concatenate([[True], ranked[1:] < ranked[:-1], [True]])
    precision = hits / np.maximum(said, 1.0)
    recall = hits / max(positives, 1.0)
    merits = _merits(values, precision, recall, hits, said, positives, count)
    merits[~splits] = -np.inf
    cuts = _cuts(ranked)
    top = merits.max()
    among = np.flatnonzero(merits >= top - 1e-12)
    chosen = among[np.abs(cuts[among] - middle).argmin()]
    # Between two scores there is room for the middle itself.
    low = ranked[chosen] if chosen < len(ranked) else -np.inf
    high = ranked[chosen - 1] if chosen else np.inf
    threshold = middle if low < middle <= high else cuts[chosen]
    return Choice(float(threshold), float(top))


def _cuts(ranked: np.ndarray) -> np.ndarray:
    """Halfway between neighbours; a little beyond the ends."""
    between = (ranked[1:] + ranked[:-1]) / 2
    return np.concatenate([[ranked[0] + 1e-6], between, [ranked[-1]]])


def _merits(
    values: Mapping[str, Any],
    precision: np.ndarray,
    recall: np.ndarray,
    hits: np.ndarray,
    said: np.ndarray,
    positives: float,
    count: float,
) -> np.ndarray:
    """How good it is to say yes to the first 0, 1, 2 ... of the ranked rows."""
    criterion = values["binary_classifier_model_selection_criteria"]
    if criterion == "precision_at_target_recall":
        target = values["target_recall"]
        return np.where(recall >= target, precision, recall - 2)
    if criterion == "recall_at_target_precision":
        target = values["target_precision"]
        return np.where((precision >= target) & (said > 0), recall, precision - 2)
    if criterion in ("f1", "f_beta"):
        beta = 1.0 if criterion == "f1" else values["f_beta"]
        below = beta**2 * precision + recall
        return np.where(
            below > 0, (1 + beta**2) * precision * recall / np.maximum(below, 1e-300), 0
        )
    return (hits + (count - positives) - (said - hits)) / count


def is_by_loss(values: Mapping[str, Any]) -> bool:
    """Whether the smallest loss wins, as always where a threshold means nothing."""
    return values["predictor_type"] != "binary_classifier" or values[
        "binary_classifier_model_selection_criteria"
    ] in ("loss_function", "cross_entropy_loss")
