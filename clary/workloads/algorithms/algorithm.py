"""A built-in algorithm: its declaration, which one file of this package makes for each of them.

The catalogue reads declarations in the control plane, so a module of this package imports numpy
and the like only inside the functions that train and serve.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clary.workloads.algorithms.channels import ChannelDeclaration
from clary.workloads.algorithms.hyperparameters import Hyperparameters
from clary.workloads.algorithms.job import Job
from clary.workloads.serving.handlers import BatchHandler


@dataclass(frozen=True)
class Metric:
    """A number that training prints, as a metric definition finds it."""

    name: str  # "validation:auc"
    regex: str
    maximize: bool


@dataclass(frozen=True)
class Algorithm:
    """One algorithm; the file's name, without `.py`, is its name."""

    name: str
    hyperparameters: Hyperparameters
    channels: tuple[ChannelDeclaration, ...]
    metrics: tuple[Metric, ...]
    # Trains and leaves the model in `job.model`; raises UserError or AlgorithmError.
    train: Callable[[Job], None]
    # Loads the model of a folder; raises Rejected(500) where it cannot.
    serve: Callable[[Path], BatchHandler]

    def metric_definitions(self) -> tuple[dict[str, str], ...]:
        """The metrics in the shape of MetricDefinitions."""
        return tuple({"Name": one.name, "Regex": one.regex} for one in self.metrics)

    def hyperparameter_specifications(self) -> tuple[dict[str, object], ...]:
        return self.hyperparameters.specifications()


def entries(
    package: str, given: str
) -> tuple[Callable[[Job], None], Callable[[str | Path], BatchHandler]]:
    """`train` and `handler` of a package, which import its modules once they are called.

    Its `training` is given what the package calls `given`; the model server calls `handler`.
    """

    def train(job: Job) -> None:
        training: Any = importlib.import_module(f"{package}.training")
        training.train(job, getattr(importlib.import_module(package), given))

    def handler(model_dir: str | Path) -> BatchHandler:
        """The model of a folder, ready to answer."""
        serving: Any = importlib.import_module(f"{package}.serving")
        return serving.load(Path(model_dir))

    return train, handler
