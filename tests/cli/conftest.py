"""What the tests of the command line share: homes with short paths, and the command itself."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND_SECONDS = 120

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path: Unix socket addresses end at 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="clary-") as folder:
        yield Path(folder)


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """This process's environment without anything of Clary, AWS or proxies."""
    unwanted = ("CLARY_", "AWS_", "SAGEMAKER_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    kept = {key: value for key, value in os.environ.items() if not key.upper().startswith(unwanted)}
    return {**kept, "CLARY_HOME": str(home), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def clary_command(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run `clary ...` as a user does, in a folder of no importance."""

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "clary.cli", *words],
            env={**environment, **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    return run


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    def wait(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "the condition did not come true in time"
            time.sleep(0.02)
        return found

    return wait
