"""A job's /opt/ml in a temporary directory, and the toolkit run on it as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
RESOURCES = {
    "current_host": "algo-1",
    "hosts": ["algo-1"],
    "current_instance_type": "ml.m5.large",
    "network_interface_name": "eth0",
}


@dataclass
class Job:
    """The directories of one job."""

    ml: Path

    def configure(
        self, hyperparameters: dict[str, Any], channels: dict[str, Any] | None = None
    ) -> None:
        config = self.ml / "input" / "config"
        config.mkdir(parents=True, exist_ok=True)
        texts = {
            key: value if isinstance(value, str) and key.startswith("raw") else json.dumps(value)
            for key, value in hyperparameters.items()
        }
        (config / "hyperparameters.json").write_text(json.dumps(texts))
        (config / "resourceconfig.json").write_text(json.dumps(RESOURCES))
        (config / "inputdataconfig.json").write_text(json.dumps(channels or {}))

    def source(self, **files: str) -> str:
        """Write source files (`train__py` is train.py) and return their directory."""
        folder = self.ml.parent / "source"
        for name, text in files.items():
            path = folder / name.replace("___", "/").replace("__", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(folder)

    def environ(self, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.ml.parent),
            "PYTHONPATH": str(ROOT),
            "SAGEMAKER_BASE_DIR": str(self.ml),
            "PYTHONWARNINGS": "error",
            **more,
        }

    def start(self, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "clary.workloads.toolkit.train"],
            env=self.environ(**environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.ml.parent,
        )

    def train(self, **environ: str) -> tuple[int, str, str]:
        """Run to the end; return exit code, stdout, stderr."""
        process = self.start(**environ)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    @property
    def failure(self) -> str | None:
        path = self.ml / "output" / "failure"
        return path.read_text() if path.exists() else None

    @property
    def succeeded(self) -> bool:
        return (self.ml / "output" / "success").exists()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "ml").mkdir()
    return Job(tmp_path / "ml")


@pytest.fixture
def run(job: Job) -> Callable[..., tuple[int, str, str]]:
    """Run one script with hyperparameters."""

    def once(
        text: str, environ: dict[str, str] | None = None, **given: Any
    ) -> tuple[int, str, str]:
        code = job.source(train__py=text)
        parameters = {"sagemaker_program": "train.py", "sagemaker_submit_directory": code, **given}
        job.configure(parameters)
        return job.train(**(environ or {}))

    return once
