"""A built-in algorithm: its declaration, which one file of this package makes for each of them.

The catalogue reads declarations in the control plane, so a module of this package imports numpy
and the like only inside the functions that train and serve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from clary.workloads.algorithms.channels import ChannelDeclaration
from clary.workloads.algorithms.hyperparameters import Hyperparameters
from clary.workloads.algorithms.job import Job


@dataclass(frozen=True)
class Metric:
    """A number that training prints, as a metric definition finds it."""

    name: str  # "validation:auc"
    regex: str
    maximize: bool


class Handler(Protocol):
    """What the model server asks of a model.

    `decode` turns a body into rows; `predict` takes rows and answers one result a row, so that the
    rows of several requests may be put in one matrix where `batchable` is true and `stackable`
    says so of each; `encode` turns results into (body, content type). All may raise
    RequestRefused, whose status and message are the answer. They are called from one thread at a
    time for each process.
    """

    batchable: bool

    def ping(self) -> bool: ...

    def decode(self, body: bytes, content_type: str) -> Any: ...

    def stackable(self, rows: Any) -> bool: ...

    def predict(self, rows: Any) -> Any: ...

    def encode(self, results: Any, accept: str) -> tuple[bytes, str]: ...

    def execution_parameters(self) -> dict[str, object]: ...


@dataclass(frozen=True)
class Algorithm:
    """One algorithm; the file's name, without `.py`, is its name."""

    name: str
    hyperparameters: Hyperparameters
    channels: tuple[ChannelDeclaration, ...]
    metrics: tuple[Metric, ...]
    # Trains and leaves the model in `job.model`; raises UserError or AlgorithmError.
    train: Callable[[Job], None]
    # Loads the model of a folder; raises RequestRefused(500) where it cannot.
    serve: Callable[[Path], Handler]

    def metric_definitions(self) -> tuple[dict[str, str], ...]:
        """The metrics in the shape of MetricDefinitions."""
        return tuple({"Name": one.name, "Regex": one.regex} for one in self.metrics)

    def hyperparameter_specifications(self) -> tuple[dict[str, object], ...]:
        return self.hyperparameters.specifications()
