"""Training k-nearest neighbors: a sample of the data, in an index."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.examples import Wanted
from clary.workloads.algorithms.first_party.model_files import NAME
from clary.workloads.algorithms.first_party.sampling import sampled
from clary.workloads.algorithms.first_party.session import Session, no_examples, session
from clary.workloads.algorithms.job import Job
from clary.workloads.algorithms.knn import projection
from clary.workloads.algorithms.knn.neighbors import Neighbors, new_index, prepared

SEED = 0


def train(job: Job, algorithm: Algorithm) -> None:
    with session(job, algorithm) as run:
        faiss.omp_set_num_threads(job.threads)
        wanted = Wanted(labels=True, feature_dim=run.values["feature_dim"])
        started = time.monotonic()
        rows, labels, total = _sample(run, wanted)
        run.log.progress(1, 1)
        model: Neighbors | None = None
        if run.group.is_first:
            model = _model(run, rows, labels)
        run.finished(total, time.monotonic() - started)
        del rows
        if model is not None:
            if "test" in job.channels:
                _test(run, model, wanted)
            _save(job.model, model, run.values)
            run.log.say(f"The model is in {job.model / NAME}")


def _sample(run: Session, wanted: Wanted) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows, labels, and how many there were; on several hosts, each brings its share."""
    hosts = run.group.size
    share = -(-run.values["sample_size"] // hosts)
    reservoir = sampled(run.blocks("train", wanted), share, SEED + run.group.rank)
    rows, labels = reservoir.sample()
    total = int(run.group.sum_of(reservoir.seen))
    if not total:
        raise no_examples()
    if not len(rows):
        rows = np.empty((0, run.values["feature_dim"]), dtype=np.float32)
    if hosts > 1:
        parts = run.group.collect(rows.astype(np.float32))
        marks = run.group.collect(labels.astype(np.float32))
        if parts:
            rows, labels = np.concatenate(parts), np.concatenate(marks)
    return rows, labels.astype(np.float32), total


def _model(run: Session, rows: np.ndarray, labels: np.ndarray) -> Neighbors:
    values = run.values
    if values["k"] > len(rows):
        raise ClientError(f"k is {values['k']}, but the sample has only {len(rows)} examples.")
    if values["predictor_type"] == "classifier" and (labels != np.floor(labels)).any():
        raise ClientError("The labels of a classifier must be whole numbers.")
    matrix = None
    if values.get("dimension_reduction_type"):
        try:
            matrix = projection.matrix(
                values["dimension_reduction_type"],
                SEED,
                values["feature_dim"],
                values["dimension_reduction_target"],
            )
        except ValueError as problem:
            raise ClientError(str(problem)) from problem
    vectors = prepared(rows, matrix, values["index_metric"])
    index = new_index(
        vectors,
        kind=values["index_type"],
        metric=values["index_metric"],
        lists=values["faiss_index_ivf_nlists"],
        quantizers=int(values.get("faiss_index_pq_m", 1)),
        sample=len(rows),
    )
    index.add(vectors)
    return Neighbors(
        index,
        labels,
        values["k"],
        values["predictor_type"] == "classifier",
        values["index_metric"],
        matrix,
    )


def _test(run: Session, model: Neighbors, wanted: Wanted) -> None:
    count, wrong, squares = 0, 0, 0.0
    for part in run.blocks("test", wanted):
        assert part.labels is not None
        answers = model.search(part.features)[:, 0]
        wrong += int((answers != part.labels).sum())
        squares += float(((answers - part.labels.astype(np.float64)) ** 2).sum())
        count += part.count
    if not count:
        return
    if model.classifies:
        run.log.quality("test", "accuracy", 1 - wrong / count, maximize=True)
        run.log.score("accuracy", 1 - wrong / count)
    else:
        run.log.quality("test", "mse", squares / count, maximize=False)
        run.log.score("mse", squares / count)


def _save(folder: Path, model: Neighbors, values: Any) -> None:
    """The three files that SageMaker's model has, each renamed when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = values.get("dimension_reduction_type")
    document = {
        "k": model.k,
        "predictor_type": values["predictor_type"],
        "index_metric": model.metric,
        "feature_dim": values["feature_dim"],
        "dimension_reduction": {
            "type": kind,
            "seed": SEED,
            "target_dim": values["dimension_reduction_target"],
            "input_dim": values["feature_dim"],
        }
        if kind
        else None,
        "normalize": model.metric == "COSINE",
        "version": "1.0",
    }
    staging = folder / f".{NAME}.{os.getpid()}"
    staging.write_bytes(model.labels.astype("<f4").tobytes())
    staging.replace(folder / f"{NAME}.labels")
    staging.write_text(json.dumps(document))
    staging.replace(folder / f"{NAME}.json")
    faiss.write_index(model.index, str(staging))
    staging.replace(folder / NAME)
