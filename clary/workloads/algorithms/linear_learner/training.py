"""Training the linear learner: many models, the best of them, and its threshold.

channels ──▶ scaled rows ──▶ solver (newton or quasi_newton) ──▶ models
validation rows (or training rows, if there are none) ──▶ the best model, its threshold
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.errors import AlgorithmError
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.examples import DENSE_CELLS_MAX, Examples, Wanted
from clary.workloads.algorithms.first_party.session import Session, no_examples, session
from clary.workloads.algorithms.job import Job
from clary.workloads.algorithms.linear_learner import newton, quasi_newton, selection
from clary.workloads.algorithms.linear_learner.data import Rows, Scaler, scaler, scores
from clary.workloads.algorithms.linear_learner.losses import Loss, loss_of
from clary.workloads.algorithms.linear_learner.quality import qualities
from clary.workloads.algorithms.linear_learner.variants import Variant, variants

LOSS_AUTO = {"regressor": "squared_loss", "binary_classifier": "logistic"}
CALIBRATION_AUTO = 100_000
SOFTMAX_OBJECTIVE = "multiclass_cross_entropy_objective"


@dataclass
class Fitted:
    """All models on scaled data: (features + bias, models), or (.., classes) for each model."""

    models: list[np.ndarray]
    variants: list[Variant]


def train(job: Job, algorithm: Algorithm) -> None:
    with session(job, algorithm) as run:
        width = None if run.values["feature_dim"] == "auto" else run.values["feature_dim"]
        wanted = Wanted(labels=True, feature_dim=width)
        examples, total = run.read_training(wanted)
        wanted = Wanted(labels=True, feature_dim=examples.width)
        started = time.monotonic()
        _check_labels(run, examples, "train")
        if run.group.largest(examples.count) < run.values["mini_batch_size"]:
            raise no_examples()  # SageMaker's containers leave out a batch that is not full
        scale = _scaler(run, examples)
        rows = _rows(run, examples, scale)
        fitted = _fit(run, rows, total)
        held_out = run.read("validation", wanted)
        validation = None
        if "validation" in job.channels:
            validation = _validation_rows(run, held_out, scale, examples.width)
        at, threshold = _select(run, fitted, validation or rows)
        run.finished(total, time.monotonic() - started, epochs=run.values["epochs"])
        weights = fitted.models[at]
        chosen = fitted.variants[at]
        run.log.say(
            f"Selected model {at} of {len(fitted.models)}: wd={chosen.l2:g}, l1={chosen.l1:g}"
        )
        _report(run, "train", rows, weights, threshold, scale)
        if validation is not None:
            _report(run, "validation", validation, weights, threshold, scale)
        if "test" in job.channels:
            test = _validation_rows(run, run.read("test", wanted), scale, examples.width, "test")
            _report(run, "test", test, weights, threshold, scale)
        _save(run, weights, scale, threshold, chosen)


# -- the data -------------------------------------------------------------------------------------


def _check_labels(run: Session, examples: Examples, channel: str) -> None:
    labels, kind = examples.labels, run.values["predictor_type"]
    assert labels is not None
    if kind == "binary_classifier" and not np.isin(labels, (0, 1)).all():
        raise ClientError(
            f"The labels of a binary_classifier must be 0 or 1; channel '{channel}' has others."
        )
    if kind == "multiclass_classifier" and labels.size:
        classes = run.values["num_classes"]
        whole = (labels == np.floor(labels)).all()
        if not whole or labels.min() < 0 or labels.max() >= classes:
            raise ClientError(
                f"The labels of a multiclass_classifier must be whole numbers from 0 to "
                f"num_classes - 1 ({classes - 1}); channel '{channel}' has others."
            )


def _is_on(word: Any, default: bool) -> bool:
    return default if word == "auto" else bool(word)


def _scaler(run: Session, examples: Examples) -> Scaler:
    values = run.values
    regresses = values["predictor_type"] == "regressor"
    assert examples.labels is not None
    # Moving sparse data fills it; without a bias there is nothing to make up for the move.
    centers = _is_on(values["unbias_data"], values["normalize_data"] is not False)
    if examples.is_sparse and values["unbias_data"] is True:
        run.log.say("unbias_data=true has no effect on sparse data", "WARNING")
    return scaler(
        run.group,
        examples.features,
        examples.labels,
        points=values["num_point_for_scaler"],
        scales=_is_on(values["normalize_data"], True),
        centers=centers and not examples.is_sparse and values["use_bias"],
        scales_labels=regresses and _is_on(values["normalize_label"], True),
        centers_labels=regresses
        and _is_on(values["unbias_label"], values["normalize_label"] is not False)
        and values["use_bias"],
    )


def _rows(run: Session, examples: Examples, scale: Scaler) -> Rows:
    """Scaled rows; dense ones take the memory of the examples."""
    features: Any = examples.features
    if examples.is_sparse and np.prod(examples.features.shape) <= DENSE_CELLS_MAX:
        features = features.toarray()
    assert examples.labels is not None
    targets = scale.apply_to_labels(examples.labels)
    return Rows(scale.apply(features), targets, _weights(run, examples.labels))


def _validation_rows(
    run: Session, examples: Examples | None, scale: Scaler, width: int, channel: str = "validation"
) -> Rows:
    if examples is None:
        nothing = np.empty(0, dtype=np.float32)
        return Rows(np.empty((0, width), dtype=np.float32), nothing, nothing)
    _check_labels(run, examples, channel)
    return _rows(run, examples, scale)


def _weights(run: Session, labels: np.ndarray) -> np.ndarray:
    """How much each row counts."""
    values = run.values
    weights = np.ones(len(labels), dtype=np.float32)
    if values["predictor_type"] == "binary_classifier":
        factor = values["positive_example_weight_mult"]
        if factor in ("balanced", "auto"):
            counts = run.group.sum(np.array([labels.sum(), len(labels)], dtype=np.float64))
            factor = (counts[1] - counts[0]) / max(counts[0], 1.0)
        weights[labels > 0.5] = factor
    elif (
        values["predictor_type"] == "multiclass_classifier" and values["balance_multiclass_weights"]
    ):
        classes = values["num_classes"]
        counts = run.group.sum(
            np.bincount(labels.astype(np.int64), minlength=classes).astype(np.float64)
        )
        shares = counts.sum() / np.maximum(counts * (counts > 0).sum(), 1.0)
        weights = shares[labels.astype(np.int64)].astype(np.float32)
    return weights


# -- the models -----------------------------------------------------------------------------------


def _loss(run: Session) -> Loss | None:
    """The loss of one score; None is softmax."""
    kind, name = run.values["predictor_type"], run.values["loss"]
    if kind == "multiclass_classifier":
        return None
    return loss_of(LOSS_AUTO[kind] if name == "auto" else name, run.values)


def _fit(run: Session, rows: Rows, total: int) -> Fitted:
    loss = _loss(run)
    by_newton = (
        loss is not None
        and rows.width <= newton.FEATURES_MAX
        and run.group.largest(0 if isinstance(rows.features, np.ndarray) else 1) == 0
    )
    chosen = variants(run.values, in_turn=not by_newton)
    weight = run.group.sum_of(float(rows.weights.sum(dtype=np.float64)))
    how = "side by side" if by_newton else "one after the other"
    run.log.say(f"Training {len(chosen)} models {how} on {total} examples")
    if by_newton:
        assert loss is not None
        models = _fit_together(run, rows, loss, chosen, weight)
    else:
        models = _fit_in_turn(run, rows, loss, chosen, weight)
    if not all(np.isfinite(one).all() for one in models):
        raise AlgorithmError("Training diverged: a model's weights are not finite.")
    return Fitted(models, chosen)


def _bias_factor(run: Session) -> float:
    factor = run.values["bias_wd_mult"]
    return 0.0 if factor == "auto" else float(factor)


def _fit_together(
    run: Session, rows: Rows, loss: Loss, chosen: list[Variant], weight: float
) -> list[np.ndarray]:
    l2 = np.array([one.l2 for one in chosen])
    penalties = newton.Penalties(
        l2=l2,
        l1=np.array([one.l1 for one in chosen]),
        bias_l2=l2 * _bias_factor(run),
        has_bias=run.values["use_bias"],
    )
    epochs = run.values["epochs"]

    def seen(at: int, losses: np.ndarray) -> None:
        run.log.quality("train", loss.objective, losses.min(), maximize=False, epoch=at)
        if at < epochs:
            run.log.progress(at + 1, epochs)

    problem = newton.Problem(rows, loss, penalties, run.group, run.job.threads, weight)
    found = newton.solve(problem, passes_max=epochs, seen=seen)
    return [found[:, at : at + 1] for at in range(len(chosen))]


def _fit_in_turn(
    run: Session, rows: Rows, loss: Loss | None, chosen: list[Variant], weight: float
) -> list[np.ndarray]:
    classes = run.values["num_classes"] if loss is None else 1
    objective = SOFTMAX_OBJECTIVE if loss is None else loss.objective
    problem = quasi_newton.Problem(rows, loss, classes, run.group, weight, run.values["use_bias"])
    models: dict[Variant, np.ndarray] = {}
    weights = np.zeros((rows.width + 1, classes))
    # From the strongest penalty to the weakest, each model starts near its end.
    for at, one in enumerate(sorted(chosen, key=lambda each: -each.l2 - each.l1)):
        values: list[float] = []
        weights = quasi_newton.solve(
            problem,
            weights,
            l2=one.l2,
            l1=one.l1,
            bias_l2=one.l2 * _bias_factor(run),
            epochs=run.values["epochs"],
            seen=values.append,
        )
        models[one] = weights
        run.log.quality("train", objective, min(values), maximize=False, epoch=at)
        run.log.progress(at + 1, len(chosen))
    return [models[one] for one in chosen]


# -- the choice -----------------------------------------------------------------------------------


def _answers(run: Session, margins: np.ndarray) -> np.ndarray:
    """What the model says for scores before the logistic or the softmax."""
    if run.values["predictor_type"] == "binary_classifier" and run.values["loss"] != "hinge_loss":
        return expit(margins.astype(np.float64))
    if run.values["predictor_type"] == "multiclass_classifier":
        wide = np.exp(margins.astype(np.float64) - margins.max(axis=1, keepdims=True))
        return wide / wide.sum(axis=1, keepdims=True)
    return margins.astype(np.float64)


def _middle(run: Session) -> float:
    return 0.0 if run.values["loss"] == "hinge_loss" else 0.5


def _select(run: Session, fitted: Fitted, rows: Rows) -> tuple[int, float]:
    """The best model and its threshold, by the selection criterion."""
    wanted = run.values["num_calibration_samples"]
    size = CALIBRATION_AUTO if wanted == "auto" else wanted
    sample = rows.sample(-(-size // run.group.size), 2)
    losses = run.group.sum(_loss_sums(run, sample, fitted.models))
    by_loss = selection.is_by_loss(run.values)
    if run.values["predictor_type"] != "binary_classifier":
        return int(losses.argmin()), 0.0
    targets = run.group.collect(sample.targets)
    choices = []
    for weights in fitted.models:
        margins = scores(sample.features, weights[:-1], weights[-1])
        parts = run.group.collect(_answers(run, margins)[:, 0].astype(np.float32))
        if run.group.is_first:
            choices.append(
                selection.best_threshold(
                    np.concatenate(parts), np.concatenate(targets), run.values, _middle(run)
                )
            )
    decision: np.ndarray | None = None
    if run.group.is_first:
        merits = np.array([one.merit for one in choices])
        # Equal merits, which small samples often have, are decided by the loss.
        at = int(losses.argmin() if by_loss else np.lexsort((losses, -merits))[0])
        threshold = _middle(run) if by_loss else choices[at].threshold
        decision = np.array([at, threshold], dtype=np.float64)
    decision = run.group.spread(decision)
    return int(decision[0]), float(decision[1])


def _loss_sums(run: Session, rows: Rows, models: list[np.ndarray]) -> np.ndarray:
    """The weighted loss of each model on this host's rows."""
    loss = _loss(run)
    total = np.zeros(len(models))
    # Models of one score are evaluated together, as columns of one matrix.
    together = None if loss is None else np.column_stack(models)
    for part in rows.parts():
        if loss is None or together is None:
            values = [
                quasi_newton.softmax(scores(part.features, one[:-1], one[-1]), part.targets)[0]
                for one in models
            ]
            total += [float(part.weights @ one) for one in values]
            continue
        margins = scores(part.features, together[:-1], together[-1])
        total += part.weights @ loss.value_and_slope(margins, part.targets[:, None])[0]
    return total


def _report(
    run: Session,
    channel: str,
    rows: Rows,
    weights: np.ndarray,
    threshold: float,
    scale: Scaler,
) -> None:
    """The objective and the qualities of the chosen model on a channel of all hosts."""
    loss = _loss(run)
    objective = SOFTMAX_OBJECTIVE if loss is None else loss.objective
    weight = run.group.sum_of(float(rows.weights.sum(dtype=np.float64)))
    total = run.group.sum_of(float(_loss_sums(run, rows, [weights])[0]))
    margins = scores(rows.features, weights[:-1], weights[-1])
    parts = run.group.collect(_answers(run, margins))
    del margins
    targets = run.group.collect(rows.targets.astype(np.float64))
    if not parts or not weight:
        return
    if channel == "validation":
        run.log.quality(
            channel, objective, total / weight, maximize=False, epoch=run.values["epochs"] - 1
        )
    run.log.quality(channel, objective, total / weight, maximize=False)
    answers, labels = (one[0] if len(one) == 1 else np.concatenate(one) for one in (parts, targets))
    del parts, targets
    if run.values["predictor_type"] == "regressor":
        answers = answers * scale.label_deviation + scale.label_mean
        labels = labels * scale.label_deviation + scale.label_mean
    for one in qualities(answers, labels, run.values, threshold):
        run.log.quality(channel, one.name, one.value, maximize=one.maximize)
        if channel == "test":
            run.log.score(one.name, one.value)


def _save(
    run: Session, weights: np.ndarray, scale: Scaler, threshold: float, chosen: Variant
) -> None:
    own, bias = scale.unscaled(weights[:-1], weights[-1])
    is_hinge = run.values["loss"] == "hinge_loss"
    kinds = {"regressor": "identity", "multiclass_classifier": "softmax"}
    run.save(
        {"weights": own, "bias": bias},
        predictor_type=run.values["predictor_type"],
        link=kinds.get(run.values["predictor_type"], "identity" if is_hinge else "logistic"),
        threshold=threshold,
        wd=chosen.l2,
        l1=chosen.l1,
    )
