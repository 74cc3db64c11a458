"""Training: from the channels of a job to the file `xgboost-model`."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from clary.workloads.algorithms.errors import AlgorithmError, UserError
from clary.workloads.algorithms.gradient_boosting import (
    callbacks,
    computed_metrics,
    cross_validation,
    distributed,
    matrices,
    model_files,
)
from clary.workloads.algorithms.gradient_boosting.plan import Plan, early_stopping, plan_of
from clary.workloads.algorithms.job import Job, log

# XGBoost's own complaints that the owner of the job can mend.
OWNER_ERRORS = (
    "label must be in [0,1] for logistic regression",
    "label must be in [0, num_class)",
    "Target is multiclass but average='binary'",
    "feature_names mismatch",
    "preds.size() == info.labels",
    "AUC: the dataset only contains pos or neg samples",
    "base_score must be in (0,1) for logistic loss",
    "label must be nonnegative",
    "must be non-negative",
    "should be greater equal to 0",
    "label must be",
    "Label must be",
    "Invalid Parameter",
    "SoftmaxMultiClassObj",
    "Unknown",
)


def train(job: Job) -> None:
    """Train on this host, with the others if the job has several; the first keeps the model."""
    plan = plan_of(job.hyperparameters, job.threads)
    if job.hyperparameters.get("use_dask_gpu_training") == "true":
        raise UserError(
            "Dask GPU training needs several GPUs on each instance; set use_dask_gpu_training to "
            "false to train with all processors."
        )
    termination = _answer_to_termination(plan)
    found = matrices.read(job)
    if len(job.hosts) > 1:
        _train_with_others(job, plan, found, termination)
        return
    if found.train is None:
        raise UserError(f"No data in training channel path {job.channels['train'].path}")
    if "validation" in job.channels and found.validation is None:
        raise UserError(f"No data in validation channel path {job.channels['validation'].path}")
    log("Single node training.")
    _train_here(job, plan, found, termination, is_first=True)


def _answer_to_termination(plan: Plan) -> callbacks.Termination:
    """SIGTERM ends training at once, unless the model trained so far is to be kept."""
    termination = callbacks.Termination()
    if plan.saves_on_termination:
        termination.install()
    elif threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    return termination


def _train_with_others(
    job: Job, plan: Plan, found: matrices.Tables, termination: callbacks.Termination
) -> None:
    log(f"Distributed node training with {len(job.hosts)} hosts: {list(job.hosts)}")
    has_data = found.train is not None and (
        "validation" not in job.channels or found.validation is not None
    )
    if not has_data:
        log(
            f"Host {job.host} does not have data. Will broadcast to cluster and will not be used "
            "in distributed training.",
            "WARNING",
        )
    if plan.folds:
        raise UserError("Cross validation (_kfold) needs a training job with one instance.")

    def work(is_first: bool) -> None:
        _train_here(job, plan, found, termination, is_first=is_first)

    distributed.run(job, has_data, work)


def _train_here(
    job: Job,
    plan: Plan,
    found: matrices.Tables,
    termination: callbacks.Termination,
    *,
    is_first: bool,
) -> None:
    assert found.train is not None
    rows, columns = found.train.features.shape
    _check_labels(found.train.labels, plan)
    log(f"Train matrix has {rows} rows and {columns} columns")
    if found.validation is not None:
        log(f"Validation matrix has {found.validation.features.shape[0]} rows")
    try:
        if plan.folds:
            boosters = cross_validation.run(job, plan, matrices.both(found.train, found.validation))
        else:
            boosters = [_boost(job, plan, found, termination, is_first)]
    except (xgboost.core.XGBoostError, ValueError) as problem:
        text = matrices.without_stack(str(problem))
        if any(known in text for known in OWNER_ERRORS):
            raise UserError(text) from problem
        raise AlgorithmError(f"XGB train call failed with exception:\n {text}") from problem
    if is_first:
        _save(boosters, job.model, numbered=bool(plan.folds))


def _check_labels(labels: np.ndarray, plan: Plan) -> None:
    """Newer releases meet labels out of range with words about something else."""
    if plan.objective in ("binary:logistic", "reg:logistic", "binary:logitraw", "binary:hinge"):
        if labels.size and (labels.min() < 0 or labels.max() > 1):
            raise UserError("label must be in [0,1] for logistic regression")
    elif plan.objective.startswith("multi:"):
        classes = plan.parameters.get("num_class", 0)
        if labels.size and (labels.min() < 0 or labels.max() >= classes):
            raise UserError(
                "SoftmaxMultiClassObj: label must be in [0, num_class), num_class="
                f"{classes} but found {labels.max():g} in label."
            )


def _save(boosters: list[xgboost.Booster], folder: Path, *, numbered: bool) -> None:
    for at, booster in enumerate(boosters):
        name = f"{model_files.MODEL}-{at}" if numbered else model_files.MODEL
        model_files.save(booster, folder / name)
        log(f"Stored trained model at {folder / name}", "DEBUG")


def _boost(
    job: Job,
    plan: Plan,
    found: matrices.Tables,
    termination: callbacks.Termination,
    is_first: bool,
) -> xgboost.Booster:
    assert found.train is not None
    matrix = matrices.matrix(found.train, plan.parameters)
    watched = [(matrix, "train")]
    if found.validation is not None:
        table = matrices.same_width(found.train, found.validation)
        watched.append((matrices.matrix(table, plan.parameters, matrix), "validation"))
    resumed, first_iteration = model_files.latest(job.checkpoints) if job.checkpoints else (None, 0)
    if resumed is not None:
        log(f"Resuming from iteration {first_iteration}")
    if resumed is not None and first_iteration >= plan.rounds:
        return resumed
    return xgboost.train(
        plan.parameters,
        matrix,
        num_boost_round=plan.rounds - first_iteration,
        evals=watched,
        custom_metric=computed_metrics.evaluator(plan.computed, plan.objective),
        callbacks=[
            callbacks.InOrder(
                _callbacks(job, plan, len(watched) > 1, first_iteration, termination, is_first)
            )
        ],
        xgb_model=resumed,
        verbose_eval=False,
    )


def _callbacks(
    job: Job,
    plan: Plan,
    has_validation: bool,
    first_iteration: int,
    termination: callbacks.Termination,
    is_first: bool,
) -> list[Any]:
    found: list[Any] = [callbacks.MetricLines(first_iteration, is_first)]
    if job.checkpoints is not None:
        job.checkpoints.mkdir(parents=True, exist_ok=True)
        found.append(callbacks.Checkpoints(job.checkpoints, first_iteration, is_first))
    if plan.early_stopping_rounds and has_validation:
        found.append(early_stopping(plan))
    if plan.saves_on_termination:
        found.append(termination)
    return found
