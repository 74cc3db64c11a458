"""Training AutoGluon: many models on one table, the best of them and their ensembles kept."""

from __future__ import annotations

import shutil
import warnings
from typing import Any

from autogluon.tabular import TabularPredictor

from clary.workloads.algorithms.autogluon_tabular import METRICS
from clary.workloads.algorithms.errors import AlgorithmError, UserError
from clary.workloads.algorithms.job import Job, log
from clary.workloads.algorithms.tabular import frames, model_document
from clary.workloads.algorithms.tabular.declaration import Defaulted
from clary.workloads.algorithms.tabular.preparation import prepare
from clary.workloads.algorithms.tabular.problems import Problem

PREDICTOR = "predictor"
LABEL = "label"
# Names of models that the library has but the environment need not; it trains the others.
NEURAL = ("NN_TORCH", "FASTAI")


def train(job: Job, hyperparameters: Defaulted) -> None:
    """Train on the first host; AutoGluon does not share a training among hosts."""
    prepared = prepare(
        job, hyperparameters, "AutoGluon", job.hyperparameters["eval_metric"], METRICS
    )
    if prepared is None:
        return
    training, validation, problem = prepared.training, prepared.validation, prepared.problem
    features = prepared.features
    log(f"Train {problem.kind} on {training.count} rows and {features} features")
    place = job.model / PREDICTOR
    shutil.rmtree(place, ignore_errors=True)
    predictor = TabularPredictor(
        label=LABEL,
        problem_type=problem.kind,
        eval_metric=_metric(job),
        path=str(place),
        verbosity=job.hyperparameters["verbosity"],
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predictor.fit(
                _table(training, prepared.categorical),
                tuning_data=_table(validation, prepared.categorical),
                **_arguments(job),
            )
    except (ValueError, AssertionError) as failure:
        raise UserError(f"AutoGluon could not train: {failure}") from failure
    except RuntimeError as failure:
        raise AlgorithmError(f"AutoGluon could not train: {failure}") from failure
    board = predictor.leaderboard(silent=True)
    log(f"Models, the best first:\n{board[['model', 'score_val', 'fit_time']].to_string()}")
    print(f"validation score: {float(board['score_val'].max()):.9f}", flush=True)
    if job.hyperparameters["save_space"] == "true":
        predictor.save_space()
    _save(job, problem, features, prepared.categorical)


def _metric(job: Job) -> str | None:
    name = job.hyperparameters["eval_metric"]
    return None if name == "auto" else name


def _arguments(job: Job) -> dict[str, Any]:
    values = job.hyperparameters
    given: dict[str, Any] = {
        "presets": values["presets"],
        "num_cpus": job.threads,
        # A neural network takes a library that is larger than all others together.
        "excluded_model_types": list(NEURAL),
    }
    bags = values["num_bag_folds"] or values["auto_stack"] == "true"
    if values["auto_stack"] == "true":
        given["auto_stack"] = True
    elif values["presets"] == "medium_quality" or bags:
        given.update(
            num_bag_folds=values["num_bag_folds"],
            num_bag_sets=values["num_bag_sets"] if values["num_bag_folds"] else None,
            num_stack_levels=values["num_stack_levels"] if values["num_bag_folds"] else 0,
        )
    # The validation data stays out of the folds.
    given["use_bag_holdout"] = bool(bags) or values["presets"] in (
        "best_quality",
        "high_quality",
        "good_quality",
    )
    for name in ("refit_full", "set_best_to_refit_full"):
        if values[name] == "true":
            given[name] = True
    return given


def _table(frame: frames.Frame, categorical: tuple[int, ...]) -> Any:
    table = frame.features.rename(columns=str)
    for at in categorical:
        table[str(at)] = table[str(at)].astype("category")
    return table.assign(**{LABEL: frame.labels})


def _save(job: Job, problem: Problem, features: int, categorical: tuple[int, ...]) -> None:
    document = {
        "algorithm": "autogluon-tabular",
        "features": features,
        "categorical": list(categorical),
        **problem.as_document(),
    }
    model_document.save(job.model, document)
    log(f"Stored trained model at {job.model / PREDICTOR}")
