"""The metrics that training can report, and whether more of one is better."""

from __future__ import annotations

MAXIMIZED = (
    "accuracy",
    "auc",
    "aucpr",
    "balanced_accuracy",
    "f1",
    "f1_binary",
    "f1_macro",
    "map",
    "ndcg",
    "precision",
    "precision_macro",
    "precision_micro",
    "r2",
    "recall",
    "recall_macro",
    "recall_micro",
)
MINIMIZED = (
    "aft-nloglik",
    "cox-nloglik",
    "error",
    "gamma-deviance",
    "gamma-nloglik",
    "interval-regression-accuracy",
    "logloss",
    "mae",
    "mape",
    "merror",
    "mlogloss",
    "mphe",
    "mse",
    "poisson-nloglik",
    "rmse",
    "rmsle",
    "tweedie-nloglik",
)
METRICS: dict[str, bool] = {
    **dict.fromkeys(MAXIMIZED, True),
    **dict.fromkeys(MINIMIZED, False),
}
# XGBoost does not have these itself; they are computed from its predictions.
COMPUTED = (
    "accuracy",
    "balanced_accuracy",
    "f1",
    "f1_binary",
    "f1_macro",
    "mse",
    "precision",
    "precision_macro",
    "precision_micro",
    "r2",
    "recall",
    "recall_macro",
    "recall_micro",
)


def is_maximized(name: str) -> bool:
    """Whether training should raise the metric; `map@10-` counts as `map`."""
    return METRICS.get(name.partition("@")[0], False)


def regex(side: str, name: str) -> str:
    """The metric definition that SageMaker fills in; a tab is `#011` in its logs."""
    return rf".*\[[0-9]+\].*#011{side}-{name}:([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?).*"
