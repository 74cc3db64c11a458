"""Training CatBoost: channels to pools, trees until validation is done, the file `model`."""

from __future__ import annotations

import sys
from typing import Any

import catboost
import numpy as np

from clary.workloads.algorithms.catboost import METRICS
from clary.workloads.algorithms.errors import AlgorithmError, UserError
from clary.workloads.algorithms.job import Job, log
from clary.workloads.algorithms.tabular import frames, layout, model_document, problems
from clary.workloads.algorithms.tabular.declaration import Defaulted
from clary.workloads.algorithms.tabular.problems import Problem

MODEL = "model"
METRIC_AUTO = {"regression": "RMSE", "binary": "Logloss", "multiclass": "MultiClass"}
FITTING = {
    "binary": ("Logloss", "Precision", "Recall", "F1", "AUC", "Accuracy", "BalancedAccuracy"),
    "multiclass": ("MultiClass", "AUC", "Accuracy"),
    "regression": METRICS["regression"],
}
# Passed on in any case; the others depend on each other.
PLAIN = (
    "iterations",
    "learning_rate",
    "depth",
    "l2_leaf_reg",
    "random_strength",
    "rsm",
    "sampling_frequency",
    "bagging_temperature",
    "grow_policy",
    "random_seed",
)


def train(job: Job, hyperparameters: Defaulted) -> None:
    """Train on the first host; CatBoost does not share a training among hosts."""
    hyperparameters.remark(job.hyperparameters)
    if not job.is_first:
        log("CatBoost trains on the first host only.", "WARNING")
        return
    found = layout.find(job)
    training, validation = frames.read_both(job, found)
    stated = problems.stated(job, job.hyperparameters["eval_metric"], METRICS)
    problem = problems.of(np.unique(training.labels), training.count, stated)
    parameters = _parameters(job, problem)
    log(
        f"Train {problem.kind} on {training.count} rows and {training.features.shape[1]} "
        f"features, validate on {validation.count} rows"
    )
    try:
        model = catboost.CatBoost(parameters)
        model.fit(
            _pool(training, problem, found.categorical),
            eval_set=_pool(validation, problem, found.categorical),
            log_cout=sys.stdout,
            log_cerr=sys.stderr,
        )
    except catboost.CatBoostError as failure:
        text = str(failure)
        kind = UserError if "catboost/private/libs/options" in text else AlgorithmError
        raise kind(f"CatBoost could not train: {text}") from failure
    if not parameters["verbose"]:
        best = model.get_best_score()["validation"][parameters["eval_metric"]]
        print(f"bestTest = {best}", flush=True)
    _save(job, model, problem, found.categorical, training.features.shape[1])


def _pool(frame: frames.Frame, problem: Problem, categorical: tuple[int, ...]) -> catboost.Pool:
    return catboost.Pool(
        frame.features, problem.encoded(frame.labels), cat_features=list(categorical)
    )


def _parameters(job: Job, problem: Problem) -> dict[str, Any]:
    values = job.hyperparameters
    name = values["eval_metric"]
    metric = METRIC_AUTO[problem.kind] if name == "auto" else name
    if metric not in FITTING[problem.kind]:
        raise UserError(
            f"The eval_metric {metric} does not fit a {problem.kind} problem; "
            f"{', '.join(FITTING[problem.kind])} do."
        )
    parameters = {name: values[name] for name in PLAIN}
    parameters.update(
        loss_function=METRIC_AUTO[problem.kind],
        eval_metric=metric,
        bootstrap_type="Bayesian",
        thread_count=job.threads if values["thread_count"] < 1 else values["thread_count"],
        early_stopping_rounds=values["early_stopping_rounds"] or None,
        use_best_model=True,
        verbose=values["verbose"],
        allow_writing_files=False,
    )
    if problem.kind == "binary":
        parameters["scale_pos_weight"] = values["scale_pos_weight"]
    if values["boosting_type"] != "Auto":
        parameters["boosting_type"] = values["boosting_type"]
    if values["max_bin"] != "Auto":
        parameters["max_bin"] = int(values["max_bin"])
    # The library refuses these for trees that do not grow leaf by leaf.
    if values["grow_policy"] == "Lossguide":
        parameters["max_leaves"] = values["max_leaves"]
        parameters["sampling_frequency"] = "PerTree"
    if values["grow_policy"] != "SymmetricTree":
        parameters["min_data_in_leaf"] = values["min_data_in_leaf"]
    return parameters


def _save(
    job: Job, model: Any, problem: Problem, categorical: tuple[int, ...], features: int
) -> None:
    job.model.mkdir(parents=True, exist_ok=True)
    staging = job.model / f".{MODEL}.writing"
    model.save_model(str(staging), format="cbm")
    staging.replace(job.model / MODEL)
    document = {
        "algorithm": "catboost",
        "features": features,
        "categorical": list(categorical),
        **problem.as_document(),
    }
    model_document.save(job.model, document)
    log(f"Stored trained model at {job.model / MODEL}")
