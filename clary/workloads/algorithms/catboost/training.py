"""Training CatBoost: channels to pools, trees until validation is done, the file `model`."""

from __future__ import annotations

import sys
from typing import Any

import catboost

from clary.workloads.algorithms.catboost import METRICS
from clary.workloads.algorithms.errors import AlgorithmError, UserError
from clary.workloads.algorithms.job import Job, log
from clary.workloads.algorithms.tabular import frames, model_document
from clary.workloads.algorithms.tabular.declaration import TUNING_OBJECTIVE, Defaulted
from clary.workloads.algorithms.tabular.preparation import prepare
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
    asked = _asked(job)
    prepared = prepare(job, hyperparameters, "CatBoost", asked, METRICS)
    if prepared is None:
        return
    training, validation, problem = prepared.training, prepared.validation, prepared.problem
    parameters = _parameters(job, problem, asked)
    log(
        f"Train {problem.kind} on {training.count} rows and {prepared.features} "
        f"features, validate on {validation.count} rows"
    )
    try:
        model = catboost.CatBoost(parameters)
        model.fit(
            _pool(training, problem, prepared.categorical),
            eval_set=_pool(validation, problem, prepared.categorical),
            log_cout=sys.stdout,
            log_cerr=sys.stderr,
        )
    except catboost.CatBoostError as failure:
        text = str(failure)
        kind = UserError if "catboost/private/libs/options" in text else AlgorithmError
        raise kind(f"CatBoost could not train: {text}") from failure
    _tell_best(model, parameters["eval_metric"])
    _save(job, model, problem, prepared.categorical, prepared.features)


def _asked(job: Job) -> str:
    """The metric to watch: where the job leaves it open, a tuning job's objective."""
    name = job.hyperparameters["eval_metric"]
    tuned = str(job.folders.read("hyperparameters").get(TUNING_OBJECTIVE) or "")
    known = any(tuned in names for names in METRICS.values())
    return tuned if name == "auto" and known else name


def _tell_best(model: Any, metric: str) -> None:
    """The library says `bestTest = ..`, and not of what."""
    scores = model.get_best_score()["validation"]
    # Where a metric has parameters, as the AUC of several classes, they follow its name.
    best = next(value for name, value in scores.items() if name.partition(":")[0] == metric)
    print(f"{metric}: bestTest = {best}", flush=True)


def _pool(frame: frames.Frame, problem: Problem, categorical: tuple[int, ...]) -> catboost.Pool:
    return catboost.Pool(
        frame.features, problem.encoded(frame.labels), cat_features=list(categorical)
    )


def _parameters(job: Job, problem: Problem, asked: str) -> dict[str, Any]:
    values = job.hyperparameters
    metric = METRIC_AUTO[problem.kind] if asked == "auto" else asked
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
