"""What the tabular algorithms that train on one host do first: tables, and what they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clary.workloads.algorithms.job import Job, log
from clary.workloads.algorithms.tabular import frames, layout, problems
from clary.workloads.algorithms.tabular.declaration import Defaulted
from clary.workloads.algorithms.tabular.problems import Problem


@dataclass
class Prepared:
    """The tables of a job; `categorical` counts features from 0."""

    training: frames.Frame
    validation: frames.Frame
    problem: Problem
    categorical: tuple[int, ...]

    @property
    def features(self) -> int:
        return self.training.features.shape[1]


def prepare(
    job: Job,
    hyperparameters: Defaulted,
    title: str,
    metric: str = "",
    by_metric: Mapping[str, Sequence[str]] | None = None,
) -> Prepared | None:
    """None on all hosts but the first: the library does not share a training among hosts."""
    hyperparameters.remark(job.hyperparameters)
    if not job.is_first:
        log(f"{title} trains on the first host only.", "WARNING")
        return None
    found = layout.find(job)
    training, validation = frames.read_both(job, found)
    stated = problems.stated(job, metric, by_metric or {})
    problem = problems.of(np.unique(training.labels), training.count, stated)
    return Prepared(training, validation, problem, found.categorical)
