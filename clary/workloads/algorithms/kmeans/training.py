"""Training k-means: many centres on a sample, reduced to k, refined on all of the data.

sample ──mini-batches──▶ k · extra_center_factor centres ──local Lloyd──▶ k ──Lloyd──▶ k
                                                                         (all data, all hosts)
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.examples import DENSE_CELLS_MAX, Wanted
from clary.workloads.algorithms.first_party.session import Session, session
from clary.workloads.algorithms.job import Job
from clary.workloads.algorithms.kmeans import centers as geometry

SAMPLE_ROWS = 65536
CENTERS_MAX = 4096
FACTOR_AUTO = 10
TRIALS_AUTO = 8
SEED = 0


def train(job: Job, algorithm: Algorithm) -> None:
    with session(job, algorithm) as run:
        wanted = Wanted(labels=False, feature_dim=job.hyperparameters["feature_dim"])
        examples, total = run.read_training(wanted)
        k = job.hyperparameters["k"]
        if total < k:
            raise ClientError(f"k is {k}, but there are only {total} training examples.")
        started = time.monotonic()
        features = _dense_if_small(examples.features)
        centers = run.group.spread(_starting_centers(run, features, total))
        run.log.progress(1, 2)
        centers = geometry.lloyd(
            run.group,
            features,
            centers,
            iterations_max=run.values["local_lloyd_max_iter"],
            tolerance=run.values["local_lloyd_tol"],
            threads=job.threads,
        )
        run.log.progress(2, 2)
        _report(run, "train", features, centers, total)
        run.finished(total, time.monotonic() - started)
        test = run.read("test", wanted)
        if "test" in job.channels:
            rows = test.features if test else np.empty((0, centers.shape[1]), dtype=np.float32)
            count = int(run.group.sum_of(rows.shape[0]))
            _report(run, "test", rows, centers, count)
        run.save({"centroids": centers})


def _dense_if_small(features: Any) -> Any:
    if isinstance(features, np.ndarray) or np.prod(features.shape) > DENSE_CELLS_MAX:
        return features
    return features.toarray()


def _starting_centers(run: Session, features: Any, total: int) -> np.ndarray | None:
    """k centres from a sample of all hosts' data; None on all hosts but the first."""
    rows = _sample(run, features, total)
    if rows is None:
        return None
    values, k = run.values, run.values["k"]
    factor = values["extra_center_factor"]
    many = k * (FACTOR_AUTO if factor == "auto" else factor)
    many = max(k, min(many, rows.shape[0], max(CENTERS_MAX, k)))
    with warnings.catch_warnings():
        # Fewer distinct examples than centres: the spare centres repeat others.
        warnings.simplefilter("ignore", ConvergenceWarning)
        coarse = MiniBatchKMeans(
            many,
            init=_init(values["init_method"]),
            n_init=1,
            max_iter=max(values["epochs"], 1),
            batch_size=min(values["mini_batch_size"], rows.shape[0]),
            max_no_improvement=None,
            reassignment_ratio=0.0 if many >= rows.shape[0] else 0.01,
            random_state=SEED,
        ).fit(rows)
        weights = np.bincount(coarse.labels_, minlength=many).astype(np.float64)
        trials = values["local_lloyd_num_trials"]
        fine = KMeans(
            k,
            init=_init(values["local_lloyd_init_method"]),
            n_init=TRIALS_AUTO if trials == "auto" else trials,
            max_iter=values["local_lloyd_max_iter"],
            tol=values["local_lloyd_tol"],
            random_state=SEED,
        ).fit(coarse.cluster_centers_, sample_weight=weights)
    return fine.cluster_centers_.astype(np.float32)


def _sample(run: Session, features: Any, total: int) -> Any:
    """Rows of all hosts on the first one, each host's share as large as its share of the data."""
    count = features.shape[0]
    share = min(count, int(np.ceil(SAMPLE_ROWS * count / total)))
    if share < count:
        chosen = np.random.default_rng(SEED + run.group.rank).choice(count, share, replace=False)
        chosen.sort()
        features = features[chosen]
    if run.group.size == 1:
        return features
    if not isinstance(features, np.ndarray):
        features = features.toarray()
    parts = run.group.collect(features.astype(np.float32))
    return np.concatenate(parts) if parts else None


def _init(word: str) -> Any:
    return "k-means++" if word == "kmeans++" else "random"


def _report(run: Session, channel: str, features: Any, centers: np.ndarray, count: int) -> None:
    if not count:
        return
    squares = run.group.sum_of(geometry.sum_of_squares(features, centers))
    found = {"msd": squares / count, "ssd": squares}
    for name in run.values["eval_metrics"]:
        run.log.quality(channel, name, found[name], maximize=False)
        if channel == "test":
            run.log.score(name, found[name])
