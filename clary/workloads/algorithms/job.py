"""The training job as an algorithm sees it: the folders of /opt/ml and what they say.

The layout is SageMaker's; `SAGEMAKER_BASE_DIR` moves it, as in its own containers.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clary.workloads.algorithms.channels import Channel

FAILURE_CHARACTERS_MAX = 1024
DEFAULT_BASE = "/opt/ml"


@dataclass(frozen=True)
class Folders:
    """Where things are."""

    base: Path

    @property
    def configuration(self) -> Path:
        return self.base / "input" / "config"

    @property
    def data(self) -> Path:
        return self.base / "input" / "data"

    @property
    def model(self) -> Path:
        return self.base / "model"

    @property
    def output_data(self) -> Path:
        return self.base / "output" / "data"

    @property
    def failure(self) -> Path:
        return self.base / "output" / "failure"

    def read(self, name: str) -> dict[str, Any]:
        """A configuration file as a dictionary; an absent one is empty."""
        path = self.configuration / f"{name}.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8") or "{}")
        except FileNotFoundError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Job:
    """What one host of a training job has to do."""

    folders: Folders
    hyperparameters: Mapping[str, Any]
    channels: Mapping[str, Channel]
    hosts: tuple[str, ...] = ("algo-1",)
    host: str = "algo-1"
    checkpoints: Path | None = None  # None where the job has no CheckpointConfig
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> Path:
        return self.folders.model

    @property
    def is_first(self) -> bool:
        """Whether this host is the one that keeps the model."""
        return self.host == self.hosts[0]

    @property
    def threads(self) -> int:
        """How many processors this host may use."""
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def folders(environment: Mapping[str, str] | None = None) -> Folders:
    environment = os.environ if environment is None else environment
    return Folders(Path(environment.get("SAGEMAKER_BASE_DIR") or DEFAULT_BASE))


def checkpoint_folder(place: Folders) -> Path | None:
    """The local folder of CheckpointConfig, under a moved base where the base is moved."""
    path = place.read("checkpointconfig").get("LocalPath")
    if not path:
        return None
    local = Path(str(path))
    if str(place.base) != DEFAULT_BASE and DEFAULT_BASE in (str(one) for one in local.parents):
        return place.base / local.relative_to(DEFAULT_BASE)
    return local


def log(message: str, level: str = "INFO") -> None:
    """One line in the form of SageMaker's algorithm containers."""
    stamp = time.strftime("%Y-%m-%d:%H:%M:%S", time.gmtime())
    sys.stdout.write(f"[{stamp}:{level}] {message}\n")
    sys.stdout.flush()


def report_failure(place: Folders, text: str) -> None:
    """Leave the reason where the platform looks for it."""
    place.failure.parent.mkdir(parents=True, exist_ok=True)
    place.failure.write_text(text[:FAILURE_CHARACTERS_MAX], encoding="utf-8")
