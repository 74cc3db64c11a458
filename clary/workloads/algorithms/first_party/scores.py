"""How good predictions are, under the names that the first-party algorithms give the numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit


@dataclass(frozen=True)
class Quality:
    """One number."""

    name: str
    value: float
    maximize: bool


def binary_scores(margins: np.ndarray, labels: np.ndarray, beta: float = 1.0) -> list[Quality]:
    """Of a logistic model, by its scores before the logistic."""
    wide = margins.astype(np.float64)
    found, truth = wide >= 0, labels > 0.5
    loss = np.logaddexp(0.0, np.where(truth, -wide, wide))
    return [
        Quality("binary_classification_accuracy", float((found == truth).mean()), maximize=True),
        Quality("binary_classification_cross_entropy", float(loss.mean()), maximize=False),
        Quality(f"binary_f_{beta:.3f}", f_beta(found, truth, beta), maximize=True),
    ]


def regression_scores(scores: np.ndarray, labels: np.ndarray) -> list[Quality]:
    gaps = scores.astype(np.float64) - labels
    mse = float((gaps**2).mean())
    return [
        Quality("rmse", float(np.sqrt(mse)), maximize=False),
        Quality("mse", mse, maximize=False),
        Quality("absolute_loss", float(np.abs(gaps).mean()), maximize=False),
    ]


def probabilities(margins: np.ndarray) -> np.ndarray:
    return expit(margins.astype(np.float64))


def f_beta(found: np.ndarray, truth: np.ndarray, beta: float) -> float:
    precision, recall = precision_recall(found, truth)
    below = beta**2 * precision + recall
    return (1 + beta**2) * precision * recall / below if below else 0.0


def precision_recall(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """0 where there is nothing to be right about."""
    hits = float((found & truth).sum())
    return hits / max(float(found.sum()), 1.0), hits / max(float(truth.sum()), 1.0)
