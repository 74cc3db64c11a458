"""Cross validation: one model for each fold, all of which are kept and serve as an ensemble."""

from __future__ import annotations

from typing import Any

import numpy as np
import xgboost

from clary.workloads.algorithms import tables
from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.gradient_boosting import callbacks, computed_metrics, matrices
from clary.workloads.algorithms.gradient_boosting.plan import Plan, early_stopping
from clary.workloads.algorithms.job import Job, log


def run(job: Job, plan: Plan, table: tables.Table) -> list[xgboost.Booster]:
    """Train every fold, print the mean of the last metrics, and leave the held-out predictions."""
    rows = table.features.shape[0]
    if rows < plan.folds:
        raise UserError(f"Cannot have {plan.folds} folds with {rows} rows.")
    log(f"Run {plan.fold_rounds}-round of {plan.folds}-fold cross validation with {rows} rows")
    classifies = plan.objective.startswith(("binary:", "multi:"))
    boosters: list[xgboost.Booster] = []
    last_scores: list[dict[tuple[str, str], float]] = []
    held_out: list[np.ndarray] = []
    for number, (train_rows, test_rows) in enumerate(_splits(plan, table, classifies)):
        booster, scores, predictions = _train_fold(plan, table, train_rows, test_rows)
        boosters.append(booster)
        last_scores.append(scores)
        if number % plan.folds == 0:
            shape = (rows, *predictions.shape[1:])
            held_out.append(np.zeros(shape, dtype=np.float32))
        held_out[-1][test_rows] = predictions
    _print_means(plan, last_scores)
    _write_predictions(job, plan, table.labels, held_out, classifies)
    return boosters


def _splits(plan: Plan, table: tables.Table, classifies: bool) -> Any:
    from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold

    splitter = RepeatedStratifiedKFold if classifies else RepeatedKFold
    seed = plan.parameters.get("seed", 0)
    folds = splitter(n_splits=plan.folds, n_repeats=plan.fold_rounds, random_state=abs(seed))
    return folds.split(np.zeros(len(table.labels)), table.labels)


def _train_fold(
    plan: Plan, table: tables.Table, train_rows: np.ndarray, test_rows: np.ndarray
) -> tuple[xgboost.Booster, dict[tuple[str, str], float], np.ndarray]:
    train = matrices.matrix(_rows(table, train_rows), plan.parameters)
    test = matrices.matrix(_rows(table, test_rows), plan.parameters, train)
    history: dict[str, dict[str, list[float]]] = {}
    steps: list[Any] = [callbacks.MetricLines(0, is_first_host=True)]
    if plan.early_stopping_rounds:
        steps.append(early_stopping(plan))
    booster = xgboost.train(
        plan.parameters,
        train,
        num_boost_round=plan.rounds,
        evals=[(train, "train"), (test, "validation")],
        custom_metric=computed_metrics.evaluator(plan.computed, plan.objective),
        callbacks=[callbacks.InOrder(steps)],
        evals_result=history,
        verbose_eval=False,
    )
    scores = {
        (data, name): float(values[-1])
        for data, metrics in history.items()
        for name, values in metrics.items()
    }
    return booster, scores, booster.predict(test)


def _rows(table: tables.Table, rows: np.ndarray) -> tables.Table:
    return tables.Table(
        table.features[rows],
        table.labels[rows],
        None if table.weights is None else table.weights[rows],
        None if table.query_ids is None else table.query_ids[rows],
    )


def _print_means(plan: Plan, last_scores: list[dict[tuple[str, str], float]]) -> None:
    """The last line that metrics are scraped from is the mean over all folds."""
    log("The final metrics of cross validation")
    means = [
        (data, name, float(np.mean([scores[data, name] for scores in last_scores])))
        for data, name in last_scores[0]
    ]
    callbacks.print_line(callbacks.metric_line(plan.rounds, means))


def _write_predictions(
    job: Job, plan: Plan, labels: np.ndarray, held_out: list[np.ndarray], classifies: bool
) -> None:
    """`predictions.csv`: the label and the held-out prediction (and class) of every row."""
    mean = np.mean(held_out, axis=0)
    columns = [labels]
    if classifies:
        columns += [mean if mean.ndim == 1 else mean.max(axis=1)]
        columns += [computed_metrics.predicted_labels(mean, plan.objective)]
    else:
        columns += [mean]
    folder = job.folders.output_data
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "predictions.csv", np.column_stack(columns), delimiter=",", fmt="%g")
