"""The hosts of jobs and endpoints that run in a home, whether its server is up or not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from clary.runner.locks import is_held

RUNNER_SECONDS = 5.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class RunningHost:
    """One host of a job or an endpoint, and the runner that watches it."""

    work: str  # the ARN of its job, endpoint, ...
    host: str  # "algo-1"
    pid: int


def running_hosts(home: Path) -> list[RunningHost]:
    """What runs now, by ARN and host."""
    found = []
    for lock in home.glob("work/*/g*/*/runner.lock"):
        pid = _holder(lock)
        if pid:
            found.append(RunningHost(_work(lock.parent), lock.parent.name, pid))
    return sorted(found, key=lambda one: (one.work, one.host))


def end_work(home: Path) -> None:
    """End the runners that outlived their control: there is no control to come back to them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        alive = running_hosts(home)
        for one in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, number)
        deadline = time.monotonic() + (RUNNER_SECONDS if alive else 0)
        while time.monotonic() < deadline and running_hosts(home):
            time.sleep(POLL_SECONDS)


def _work(directory: Path) -> str:
    try:
        return str(json.loads((directory / "spec.json").read_bytes())["work"])
    except (OSError, ValueError, KeyError):
        return "?"  # its files go at this moment


def _holder(lock: Path) -> int:
    """The process that holds a runner's lock; 0 if it is gone."""
    try:
        return int(lock.read_bytes() or b"0") if is_held(str(lock)) else 0
    except (FileNotFoundError, ValueError):
        return 0
