"""The plan of a training: what the hyperparameters ask for, in the library's terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import xgboost
from xgboost.callback import EarlyStopping

from clary.workloads.algorithms.gradient_boosting.metric_names import COMPUTED, is_maximized

# What is for Clary, not for the library.
OWN = (
    "num_round",
    "csv_weights",
    "early_stopping_rounds",
    "eval_metric",
    "save_model_on_termination",
    "use_dask_gpu_training",
    "_kfold",
    "_num_cv_round",
    "_tuning_objective_metric",
)
# Names of older releases that newer ones do not have, or only warn about.
RETIRED = ("dsplit", "sketch_eps", "predictor", "single_precision_histogram")


@dataclass(frozen=True)
class Plan:
    """What the hyperparameters ask for, in the library's terms."""

    parameters: dict[str, Any]
    rounds: int
    computed: tuple[str, ...]
    objective: str
    early_stopping_rounds: int
    early_stopping_metric: str | None
    saves_on_termination: bool
    folds: int
    fold_rounds: int


def plan_of(values: Mapping[str, Any], threads: int) -> Plan:
    parameters = {name: value for name, value in values.items() if name not in (*OWN, *RETIRED)}
    metrics = _metrics(values)
    native = [name for name in metrics if name not in COMPUTED]
    if native:
        parameters["eval_metric"] = native
    parameters.setdefault("nthread", threads)
    if "updater" in parameters:
        parameters["updater"] = ",".join(parameters["updater"])
    for name in ("monotone_constraints", "interaction_constraints"):
        if name in parameters:
            parameters[name] = str(parameters[name])
    if parameters.get("tree_method") == "gpu_hist" and int(xgboost.__version__.split(".")[0]) >= 2:
        parameters.update({"tree_method": "hist", "device": "cuda"})
    return Plan(
        parameters=parameters,
        rounds=values["num_round"],
        computed=tuple(name for name in metrics if name in COMPUTED),
        objective=str(values.get("objective", "reg:squarederror")),
        early_stopping_rounds=values.get("early_stopping_rounds", 0),
        early_stopping_metric=metrics[-1] if metrics else None,
        saves_on_termination=values.get("save_model_on_termination") == "true",
        folds=values.get("_kfold", 0),
        fold_rounds=values.get("_num_cv_round", 1),
    )


def _metrics(values: Mapping[str, Any]) -> list[str]:
    """The metrics to report; the one that a tuning job looks at comes last."""
    names = list(dict.fromkeys(values.get("eval_metric", ())))
    tuned = str(values.get("_tuning_objective_metric", "")).partition(":")[2]
    if tuned:
        names = [*(name for name in names if name != tuned), tuned]
    return names


def early_stopping(plan: Plan) -> Any:
    """Stop when the last metric of the validation data has not improved; keep the best model."""
    metric = plan.early_stopping_metric
    return EarlyStopping(
        rounds=plan.early_stopping_rounds,
        data_name="validation",
        metric_name=metric,
        maximize=is_maximized(metric) if metric else None,
        save_best=plan.parameters.get("booster") != "gblinear",
    )
