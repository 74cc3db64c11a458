"""Training a random cut forest: one sample of the data for each tree."""

from __future__ import annotations

import time

import numpy as np

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.examples import Wanted
from clary.workloads.algorithms.first_party.sampling import sampled
from clary.workloads.algorithms.first_party.session import Session, no_examples, session
from clary.workloads.algorithms.job import Job
from clary.workloads.algorithms.randomcutforest.forest import ARRAYS, Forest, grow

SEED = 0
DEVIATIONS = 3.0  # scores this far above the mean are anomalies, as SageMaker's guide has it
SCORED_ROWS = 5000


def train(job: Job, algorithm: Algorithm) -> None:
    train_channel = job.channels["train"]
    if len(job.hosts) > 1 and not train_channel.sharded:
        raise ClientError(
            "The train channel supports only S3DistributionType=ShardedByS3Key where a job has "
            "several instances."
        )
    if "test" in job.channels and job.channels["test"].sharded:
        raise ClientError("The test channel supports only S3DistributionType=FullyReplicated.")
    with session(job, algorithm) as run:
        started = time.monotonic()
        rows, total = _sample(run)
        run.log.progress(1, 2)
        forest: Forest | None = None
        if run.group.is_first:
            forest = _forest(run, rows)
        run.log.progress(2, 2)
        run.finished(total, time.monotonic() - started)
        if forest is not None:
            _test(run, forest, rows)
            run.save({name: getattr(forest, name) for name in ARRAYS}, trees=forest.trees)


def _sample(run: Session) -> tuple[np.ndarray, int]:
    """Enough rows for all trees, or all there are; each host brings its share."""
    needed = run.values["num_trees"] * run.values["num_samples_per_tree"]
    share = -(-needed // run.group.size)
    wanted = Wanted(labels=False, feature_dim=run.values["feature_dim"])
    reservoir = sampled(run.blocks("train", wanted), share, SEED + run.group.rank)
    rows, _ = reservoir.sample()
    total = int(run.group.sum_of(reservoir.seen))
    if not total:
        raise no_examples()
    if not len(rows):
        rows = np.empty((0, run.values["feature_dim"]), dtype=np.float32)
    if run.group.size > 1:
        parts = run.group.collect(rows.astype(np.float32))
        rows = np.concatenate(parts) if parts else rows
    return rows.astype(np.float32), total


def _forest(run: Session, rows: np.ndarray) -> Forest:
    """Trees with samples of their own where there is enough data, else with overlapping ones."""
    trees, size = run.values["num_trees"], min(run.values["num_samples_per_tree"], len(rows))
    random = np.random.default_rng(SEED)
    if trees * size <= len(rows):
        order = random.permutation(len(rows))
        samples = [rows[order[at * size : (at + 1) * size]] for at in range(trees)]
    else:
        samples = [rows[random.choice(len(rows), size, replace=False)] for _ in range(trees)]
    return grow(samples, SEED)


def _test(run: Session, forest: Forest, rows: np.ndarray) -> None:
    """Say what scores the training data has; judge the test channel by their 3-sigma limit."""
    scores = forest.scores(rows[:SCORED_ROWS])
    limit = float(scores.mean() + DEVIATIONS * scores.std())
    run.log.metrics(**{"score.mean": float(scores.mean()), "score.std": float(scores.std())})
    if "test" not in run.job.channels:
        return
    wanted = Wanted(labels=True, feature_dim=run.values["feature_dim"])
    found, labels = [], []
    for part in run.blocks("test", wanted):
        assert part.labels is not None
        if not np.isin(part.labels, (0, 1)).all():
            raise ClientError("The labels of the test channel must be 0 or 1 (an anomaly).")
        features = part.features.toarray() if part.is_sparse else part.features
        found.append(forest.scores(features) > limit)
        labels.append(part.labels > 0)
    if not found:
        raise UserError("No data in the test channel.")
    _judge(run, np.concatenate(found), np.concatenate(labels))


def _judge(run: Session, found: np.ndarray, labels: np.ndarray) -> None:
    hits = float((found & labels).sum())
    precision = hits / max(float(found.sum()), 1.0)
    recall = hits / max(float(labels.sum()), 1.0)
    both = precision + recall
    results = {}
    if "accuracy" in run.values["eval_metrics"]:
        results["accuracy"] = float((found == labels).mean())
    if "precision_recall_fscore" in run.values["eval_metrics"]:
        results["precision"], results["recall"] = precision, recall
        results["f1"] = 2 * precision * recall / both if both else 0.0
    for name, value in results.items():
        run.log.quality("test", name, value, maximize=True)
        run.log.score(name, value)
