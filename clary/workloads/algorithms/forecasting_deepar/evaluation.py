"""How good forecasts of the last values of test series are: RMSE and weighted quantile losses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clary.workloads.algorithms.first_party.session import Session
from clary.workloads.algorithms.forecasting_deepar.forecaster import Forecaster
from clary.workloads.algorithms.forecasting_deepar.series import Panel


def sums(
    model: Forecaster, panel: Panel, rows: np.ndarray, quantiles: Sequence[float], samples: int
) -> np.ndarray:
    """Known values, their squared errors, their absolute values, and the loss of each quantile.

    The forecast of a series starts `prediction_length` before its end and sees nothing later.
    """
    prediction = model.cutter.prediction
    origins = np.maximum(panel.lengths[rows] - prediction, 0)
    total = np.zeros(3 + len(quantiles))
    paths = model.forecast(panel, rows, origins, samples)
    for row, origin, drawn in zip(rows, origins, paths):  # noqa: B905 - Python 3.8
        start = panel.offsets[row] + origin
        truth = panel.target[start : panel.offsets[row] + panel.lengths[row]].astype(np.float64)
        known = ~np.isnan(truth)
        truth, drawn = truth[known], drawn[:, : len(known)][:, known]
        if not truth.size:
            continue
        gaps = truth - np.quantile(drawn, quantiles, axis=0)
        levels = np.asarray(quantiles)[:, None]
        losses = 2 * np.maximum(levels * gaps, (levels - 1) * gaps).sum(axis=1)
        squares = ((drawn.mean(axis=0) - truth) ** 2).sum()
        total += np.array([truth.size, squares, np.abs(truth).sum(), *losses])
    return total


def report(run: Session, total: np.ndarray, quantiles: Sequence[float]) -> None:
    """Log the scores of all hosts' test series together."""
    count, squares, absolute = total[:3]
    if not count:
        run.log.say("The test channel has no known value to compare a forecast with.", "WARNING")
        return
    losses = total[3:]
    weighted = losses / absolute if absolute else np.full(len(losses), np.nan)
    scores = {
        "RMSE": float(np.sqrt(squares / count)),
        "mean_absolute_QuantileLoss": float(losses.mean()),
        "mean_wQuantileLoss": float(weighted.mean()),
    }
    for quantile, loss in zip(quantiles, weighted):  # noqa: B905 - Python 3.8
        scores[f"wQuantileLoss[{quantile:g}]"] = float(loss)
    for name, value in scores.items():
        run.log.say(f"#test_score ({run.log.host}, {name}): {value!r}")
    for name in ("RMSE", "mean_wQuantileLoss"):
        run.log.quality("test", name, scores[name], maximize=False)
