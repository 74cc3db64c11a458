"""Training LDA: counts to moments, moments to topics."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.examples import Wanted
from clary.workloads.algorithms.first_party.session import Session, session
from clary.workloads.algorithms.job import Job
from clary.workloads.algorithms.lda.moments import Corpus
from clary.workloads.algorithms.lda.topics import Topics, learn, log_likelihood


def train(job: Job, algorithm: Algorithm) -> None:
    if len(job.hosts) > 1:
        raise ClientError("LDA supports single-instance CPU training only; set InstanceCount to 1.")
    with session(job, algorithm) as run:
        wanted = Wanted(labels=False, feature_dim=job.hyperparameters["feature_dim"])
        examples, total = run.read_training(wanted)
        started = time.monotonic()
        corpus = Corpus(_counts(examples.features, "train"), run.values["alpha0"])
        if not corpus.documents:
            raise ClientError("No document of the channel 'train' has three words or more.")
        count = run.values["num_topics"]
        if count > corpus.words:
            raise ClientError(
                f"num_topics ({count}) cannot be larger than feature_dim ({corpus.words})."
            )
        topics = learn(
            corpus,
            count,
            restarts=run.values["max_restarts"],
            iterations_max=run.values["max_iterations"],
            tolerance=run.values["tol"],
        )
        run.log.progress(1, 1)
        run.finished(total, time.monotonic() - started)
        _test(run, wanted, topics)
        run.save(
            {
                "alpha": topics.alpha.astype(np.float32),
                "beta": topics.beta.astype(np.float32),
            }
        )


def _counts(features: Any, channel: str) -> csr_matrix:
    counts = csr_matrix(features)
    if counts.nnz and counts.data.min() < 0:
        raise ClientError(f"The word counts of channel '{channel}' must not be negative.")
    return counts


def _test(run: Session, wanted: Wanted, topics: Topics) -> None:
    if "test" not in run.job.channels:
        return
    total, words = 0.0, 0.0
    for part in run.blocks("test", wanted):
        found = log_likelihood(_counts(part.features, "test"), topics)
        total, words = total + found[0], words + found[1]
    if words:
        run.log.quality("test", "pwll", total / words, maximize=True)
        run.log.score("pwll", total / words)
