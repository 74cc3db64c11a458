"""Training LightGBM: channels to binned data, rounds until validation is done, `model.pkl`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import joblib
import lightgbm
import numpy as np

from clary.workloads.algorithms import tables
from clary.workloads.algorithms.errors import AlgorithmError, UserError
from clary.workloads.algorithms.first_party.hosts import Group
from clary.workloads.algorithms.growing_matrix import forget, is_spilled
from clary.workloads.algorithms.job import Job, log
from clary.workloads.algorithms.lightgbm import METRICS, network
from clary.workloads.algorithms.tabular import layout, model_document, problems
from clary.workloads.algorithms.tabular.declaration import Defaulted
from clary.workloads.algorithms.tabular.problems import Problem
from clary.workloads.algorithms.tabular.splits import Fifth

MODEL = "model.pkl"
SEED = 200
BINNED_ROWS = 200_000  # the library's bin_construct_sample_cnt
CELLS_OF_A_THREAD_MIN = 500_000
METRIC_AUTO = {"regression": "rmse", "binary": "binary_logloss", "multiclass": "multi_logloss"}
OBJECTIVES = {"regression": "regression", "binary": "binary", "multiclass": "multiclass"}
ONLY_MULTICLASS = ("multi_logloss", "multi_error", "auc_mu")
# What is for Clary, or is said to the library in another way.
OWN = ("num_boost_round", "early_stopping_rounds", "metric", "boosting", "is_unbalance")


def train(job: Job, hyperparameters: Defaulted) -> None:
    """Train on this host, with the others if the job has several; the first keeps the model."""
    values = job.hyperparameters
    hyperparameters.remark(values)
    found = layout.find(job)
    with Group(job) as group:
        training, validation = _read(job, found, group)
        features = training.features.shape[1]
        layout.check_categorical(found.categorical, features)
        stated = problems.stated(job, values["metric"], METRICS)
        problem = problems.of(*_labels(group, training.labels), stated)
        parameters = _parameters(job, problem, training.features.size)
        log(
            f"Train {problem.kind} on {len(training.labels)} rows and {features} features, "
            f"validate on {len(validation.labels)} rows"
        )
        sizes = (len(training.labels), len(validation.labels))
        train_set = _dataset(training, problem, parameters, found.categorical, None)
        valid_set = _dataset(validation, problem, parameters, found.categorical, train_set)
        # The library lets go of the features once it has its own form of them.
        del training, validation
        booster = _boost(job, group, parameters, train_set, valid_set, sizes[1])
    if job.is_first:
        job.model.mkdir(parents=True, exist_ok=True)
        staging = job.model / f".{MODEL}.writing"
        joblib.dump(booster, staging)
        staging.replace(job.model / MODEL)
        document = {"algorithm": "lightgbm", "features": features, **problem.as_document()}
        model_document.save(job.model, document)
        log(f"Stored trained model at {job.model / MODEL}")


# -- the data -------------------------------------------------------------------------------------


def _read(job: Job, found: layout.Layout, group: Group) -> tuple[tables.Table, tables.Table]:
    """This host's part of the training data, and of what validates it."""
    paths = found.training
    size = sum(path.stat().st_size for path in paths)
    # Hosts agree on their bins inside the library, which then has to see the data at once.
    spills = group.size == 1
    training = tables.TableBuilder(size, spills=spills)
    held_out = tables.TableBuilder(size, spills=spills)
    fifth = None if found.validation else Fifth()
    # Hosts that have the same files share their rows out.
    share = slice(None) if found.is_sharded else slice(group.rank, None, group.size)
    for heads, features in tables.csv_blocks(paths, 1, job.threads):
        labels, rows = heads[:, share], features[share]
        if fifth is None:
            training.add(labels, rows)
            continue
        mask = fifth.mask(len(rows))
        training.add(labels[:, ~mask], rows[~mask])
        held_out.add(labels[:, mask], rows[mask])
    whole = training.table()
    if fifth is None:
        # Every host stops at the same round, so all of them validate on the same rows.
        validation = tables.read_csv(found.validation, 1, job.threads, spills=spills)
    else:
        validation = held_out.table()
    if whole is None or validation is None:
        raise UserError(
            f"The host {job.host} has too few rows: {'no rows' if whole is None else 'none'} "
            f"{'to train on' if whole is None else 'left to validate with'}."
        )
    if validation.features.shape[1] != whole.features.shape[1]:
        raise UserError(
            f"The training data has {whole.features.shape[1]} features, the validation data "
            f"{validation.features.shape[1]}."
        )
    return whole, validation


def _labels(group: Group, labels: np.ndarray) -> tuple[np.ndarray, int]:
    """The distinct labels and the number of rows of all hosts."""
    own = np.unique(labels)
    rows = int(group.sum_of(len(labels)))
    if group.size == 1:
        return own, rows
    parts = group.collect(own)
    return group.spread(np.unique(np.concatenate(parts)) if parts else None), rows


def _dataset(
    table: tables.Table,
    problem: Problem,
    parameters: dict[str, Any],
    categorical: tuple[int, ...],
    reference: lightgbm.Dataset | None,
) -> lightgbm.Dataset:
    labels = problem.encoded(table.labels).astype(np.float32)
    given: dict[str, Any] = {
        "categorical_feature": list(categorical),
        "params": parameters,
        "free_raw_data": True,
    }
    if not is_spilled(table.features):
        return lightgbm.Dataset(table.features, label=labels, reference=reference, **given)
    if reference is None:
        reference = lightgbm.Dataset(_sample(table.features), **given).construct()
    return lightgbm.Dataset(_Rows(table.features), label=labels, reference=reference, **given)


def _sample(features: np.ndarray) -> np.ndarray:
    """Some of the rows, from which the library finds the bins of all; it takes as many itself."""
    count = min(BINNED_ROWS, len(features))
    chosen = np.random.default_rng(SEED).choice(len(features), count, replace=False)
    chosen.sort()
    sample = np.empty((count, features.shape[1]), dtype=np.float32)
    for start in range(0, count, tables.ROWS_AT_ONCE):
        part = slice(start, start + tables.ROWS_AT_ONCE)
        sample[part] = features[chosen[part]]
        forget(features)
    return sample


class _Rows(lightgbm.Sequence):
    """A spilled matrix, for which the library asks batch by batch."""

    batch_size = tables.ROWS_AT_ONCE

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix

    def __len__(self) -> int:
        return len(self.matrix)

    def __getitem__(self, at: Any) -> np.ndarray:
        forget(self.matrix)
        return self.matrix[at]


# -- the model ------------------------------------------------------------------------------------


def _parameters(job: Job, problem: Problem, cells: int) -> dict[str, Any]:
    values = job.hyperparameters
    name = values["metric"]
    metric = METRIC_AUTO[problem.kind] if name == "auto" else name
    if name in METRICS["regression"] and not problem.is_regression:
        raise UserError(f"The metric {name} is for regression, and the labels are classes.")
    wants = "multiclass" if metric in ONLY_MULTICLASS else "binary"
    if metric in METRICS["classification"] and problem.kind != wants:
        raise UserError(f"The metric {metric} does not fit a {problem.kind} problem.")
    parameters = {name: value for name, value in values.items() if name not in OWN}
    parameters.update(objective=OBJECTIVES[problem.kind], metric=metric, seed=SEED)
    # Threads wait for each other at every split, which small data are not worth.
    threads = job.threads if cells > CELLS_OF_A_THREAD_MIN else 1
    parameters["num_threads"] = values["num_threads"] or threads
    parameters["boosting"] = "gbdt" if values["boosting"] == "goss" else values["boosting"]
    if values["boosting"] == "goss":
        # Sampling by gradients takes the place of bagging.
        parameters.update(data_sample_strategy="goss", bagging_freq=0)
    if problem.kind == "multiclass":
        parameters["num_class"] = len(problem.classes)
    if problem.kind != "binary":
        del parameters["scale_pos_weight"]
    elif values["is_unbalance"] == "true":
        parameters["is_unbalance"] = True
    return parameters


def _boost(
    job: Job,
    group: Group,
    parameters: dict[str, Any],
    train_set: lightgbm.Dataset,
    valid_set: lightgbm.Dataset,
    rows: int,
) -> lightgbm.Booster:
    values = job.hyperparameters
    callbacks: list[Callable[..., Any]] = [_mean_of_hosts(group, rows)] if group.size > 1 else []
    if job.is_first:
        callbacks.append(_metric_lines)
    if values["early_stopping_rounds"] and parameters["boosting"] != "dart":
        callbacks.append(
            lightgbm.early_stopping(values["early_stopping_rounds"], verbose=job.is_first)
        )
    try:
        with network.joined(job, group) as addresses:
            return lightgbm.train(
                {**parameters, **addresses},
                train_set,
                num_boost_round=values["num_boost_round"],
                valid_sets=[valid_set],
                valid_names=["validation"],
                callbacks=callbacks,
            )
    except lightgbm.basic.LightGBMError as problem:
        raise AlgorithmError(f"LightGBM could not train: {problem}") from problem


def _metric_lines(environment: Any) -> None:
    """`[1]\\tvalidation's rmse: 0.5`, without exponents: metric definitions read digits."""
    scores = "\t".join(
        f"{data}'s {name}: {np.format_float_positional(value, precision=9, trim='0')}"
        for data, name, value, *_ in environment.evaluation_result_list
    )
    print(f"[{environment.iteration + 1}]\t{scores}", flush=True)


_metric_lines.order = 10  # type: ignore[attr-defined]


def _mean_of_hosts(group: Group, rows: int) -> Callable[[Any], None]:
    """Each host scores its own rows; their mean is what all of them go by."""

    def replace(environment: Any) -> None:
        results = environment.evaluation_result_list
        own = np.array([rows, *(rows * one[2] for one in results)], dtype=np.float64)
        sums = group.sum(own)
        for at, one in enumerate(results):
            mean = (*one[:2], float(sums[at + 1] / sums[0]), one[3])
            # Newer releases name the members of what was a plain tuple.
            results[at] = mean if type(one) is tuple else type(one)(*mean)

    replace.order = 5  # type: ignore[attr-defined]
    return replace
