"""Training a factorization machine: mini-batches in random order, epoch after epoch.

On several hosts each learns from its own data, and after every epoch they take the mean of their
parameters, each counting as much as it has examples.
"""

from __future__ import annotations

import time

import numpy as np

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.errors import AlgorithmError
from clary.workloads.algorithms.factorization_machines.machine import Learner, Machine, new
from clary.workloads.algorithms.first_party.declaration import RECORDIO
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.examples import Examples, Wanted
from clary.workloads.algorithms.first_party.scores import Quality, binary_scores, regression_scores
from clary.workloads.algorithms.first_party.session import Session, session
from clary.workloads.algorithms.job import Job

SEED = 0
ROWS_AT_ONCE = 65536


def train(job: Job, algorithm: Algorithm) -> None:
    with session(job, algorithm) as run:
        values = run.values
        wanted = Wanted(labels=True, feature_dim=values["feature_dim"], content_types=(RECORDIO,))
        examples, total = run.read_training(wanted)
        _check_labels(examples, values["predictor_type"])
        started = time.monotonic()
        learner = Learner(new(values, np.random.default_rng(SEED)), values)
        for epoch in range(values["epochs"]):
            _epoch(run, learner, examples, epoch)
            _average(run, learner.machine, examples.count, total)
            run.log.progress(epoch + 1, values["epochs"])
        seconds = time.monotonic() - started
        run.finished(total * values["epochs"], seconds, epochs=values["epochs"])
        machine = learner.machine
        for one in _quality(machine, examples, learner.is_classifier):
            run.log.quality("train", one.name, one.value, maximize=one.maximize)
        test = run.read("test", wanted)
        if test is not None:
            _check_labels(test, values["predictor_type"])
            for one in _quality(machine, test, learner.is_classifier):
                run.log.quality("test", one.name, one.value, maximize=one.maximize)
                run.log.score(one.name, one.value)
        run.save(machine.all(), predictor_type=values["predictor_type"])


def _check_labels(examples: Examples, predictor: str) -> None:
    assert examples.labels is not None
    if predictor == "binary_classifier" and not np.isin(examples.labels, (0, 1)).all():
        raise ClientError("The labels of a binary_classifier must be 0 or 1.")


def _epoch(run: Session, learner: Learner, examples: Examples, epoch: int) -> None:
    assert examples.labels is not None
    labels = examples.labels.astype(np.float32)
    size = run.values["mini_batch_size"]
    order = np.random.default_rng([SEED, run.group.rank, epoch]).permutation(examples.count)
    scores = np.empty(examples.count, dtype=np.float32)
    for start in range(0, examples.count, size):
        chosen = order[start : start + size]
        scores[chosen] = learner.step(examples.features[chosen], labels[chosen])
    if not examples.count:
        return
    if not np.isfinite(scores).all():
        raise AlgorithmError(
            "Training diverged: the scores are not finite. Reduce the learning rates (bias_lr, "
            "linear_lr, factors_lr), or set clip_gradient."
        )
    judge = binary_scores if learner.is_classifier else regression_scores
    for one in judge(scores, labels):
        run.log.quality("train", one.name, one.value, maximize=one.maximize, epoch=epoch)


def _average(run: Session, machine: Machine, count: int, total: int) -> None:
    if run.group.size == 1:
        return
    for array in machine.all().values():
        array[...] = run.group.sum(array.astype(np.float64) * (count / total))


def _quality(machine: Machine, examples: Examples, is_classifier: bool) -> list[Quality]:
    assert examples.labels is not None
    if not examples.count:
        return []
    scores = np.concatenate(
        [
            machine.scores(examples.features[start : start + ROWS_AT_ONCE])
            for start in range(0, examples.count, ROWS_AT_ONCE)
        ]
    )
    judge = binary_scores if is_classifier else regression_scores
    return judge(scores, examples.labels)
