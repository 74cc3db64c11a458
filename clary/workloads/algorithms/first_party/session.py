"""One training of a first-party algorithm: its hosts, its log, and the steps that all of them take."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.first_party import model_files
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.examples import Examples, Wanted, blocks, read
from clary.workloads.algorithms.first_party.hosts import Group
from clary.workloads.algorithms.first_party.log_lines import Log
from clary.workloads.algorithms.first_party.schema import Schema
from clary.workloads.algorithms.job import Job


@dataclass
class Session:
    """What training functions are given."""

    job: Job
    log: Log
    group: Group
    name: str
    values: Mapping[str, Any]

    def read(self, channel: str, wanted: Wanted, *, dense: bool = False) -> Examples | None:
        """The examples of a channel on this host; None where it is absent or has none here."""
        if channel not in self.job.channels:
            return None
        started = time.monotonic()
        found = read(self.job.channels[channel], wanted, dense=dense)
        count = found.count if found else 0
        seconds = time.monotonic() - started
        self.log.say(f"Read {count} examples of channel '{channel}' in {seconds:.2f} s")
        return found

    def blocks(self, channel: str, wanted: Wanted) -> Iterator[Examples]:
        return blocks(self.job.channels[channel], wanted)

    def read_training(self, wanted: Wanted, *, dense: bool = False) -> tuple[Examples, int]:
        """The training examples of this host, and how many all hosts have together."""
        found = self.read("train", wanted, dense=dense)
        total = int(self.group.sum_of(found.count if found else 0))
        if not total:
            raise no_examples()
        width = self.group.largest(found.width if found else 0)
        if found is None:
            labels = np.empty(0, dtype=np.float32)
            found = Examples(np.empty((0, width), dtype=np.float32), labels)
        if found.width != width:
            if not found.is_sparse:
                raise ClientError("The hosts' data differ in their number of features.")
            found.features.resize((found.count, width))
        return found, total

    def finished(self, records: int, seconds: float, **metrics: float) -> None:
        """The lines that end every training."""
        self.log.metrics(
            **{
                "Number of Records Since Last Reset": records,
                "Total Records Seen": records,
                "training_algorithm.time": seconds * 1000,
                **metrics,
            }
        )
        self.log.throughput(records, seconds)

    def save(self, arrays: Mapping[str, np.ndarray], **document: Any) -> None:
        """The first host keeps the model."""
        if self.group.is_first:
            path = model_files.save(self.job.model, self.name, arrays, **document)
            self.log.say(f"The model is in {path}")


@contextmanager
def session(job: Job, algorithm: Algorithm) -> Iterator[Session]:
    """Bring the hosts together, and tell what of the job's configuration has no effect."""
    log = Log(job, algorithm.name)
    log.say(f"Training {algorithm.name} on {len(job.hosts)} host(s) with {job.threads} processors")
    schema = algorithm.hyperparameters
    if isinstance(schema, Schema):
        for remark in schema.remarks(job.hyperparameters):
            log.say(remark, "WARNING")
    with Group(job) as group:
        yield Session(job, log, group, algorithm.name, job.hyperparameters)


def no_examples() -> ClientError:
    return ClientError(
        "No training data processed. Either the training channel is empty or the mini-batch size "
        "is too high. Verify that training data contains non-empty files and the mini-batch size "
        "is less than the number of records per training host."
    )
