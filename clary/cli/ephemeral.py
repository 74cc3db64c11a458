"""A server for as long as one command or test session needs it, in a home that is removed after."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from clary.cli.installation import Installation
from clary.cli.processes import free_port, start, stop, wait_until_ready
from clary.settings import Settings

STOP_SECONDS = 20.0
RUNNER_SECONDS = 5.0
POLL_SECONDS = 0.05


@contextlib.contextmanager
def ephemeral_installation(environment: Mapping[str, str]) -> Iterator[Installation]:
    """A fresh installation on a free port; its processes and files are gone when the context ends.

    The cache of built environments is shared with every other installation of the user.
    """
    settings = Settings.load(environment)
    # Unix sockets have short addresses, so the home is not put under a long TMPDIR.
    parent = "/tmp" if Path("/tmp").is_dir() else None
    home = Path(tempfile.mkdtemp(prefix="clary-", dir=parent))
    settings = replace(settings, home=home, host="127.0.0.1", port=free_port(), database_url="")
    installation = Installation(settings)
    inherited = {key: value for key, value in environment.items() if key != "CLARY_DATABASE_URL"}
    supervisor = start(installation, "--owner", str(os.getpid()), environment=inherited)
    try:
        wait_until_ready(installation, supervisor)
        yield installation
    finally:
        try:
            stop(installation, seconds=STOP_SECONDS)
            supervisor.wait(STOP_SECONDS)
        finally:
            if supervisor.poll() is None:
                supervisor.kill()
                supervisor.wait()
            end_work(home)
            shutil.rmtree(home, ignore_errors=True)


def end_work(home: Path) -> None:
    """End the runners that outlived their control: there is no control to come back to them."""
    locks = list(home.glob("work/*/g*/*/runner.lock"))
    for number in (signal.SIGTERM, signal.SIGKILL):
        alive = {pid for lock in locks if (pid := _holder(lock))}
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + (RUNNER_SECONDS if alive else 0)
        while time.monotonic() < deadline and any(_holder(lock) for lock in locks):
            time.sleep(POLL_SECONDS)


def _holder(lock: Path) -> int:
    """The process that holds a runner's lock; 0 if it is gone."""
    try:
        with lock.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read(32) or b"0")
    except (FileNotFoundError, ValueError):
        return 0
    return 0
