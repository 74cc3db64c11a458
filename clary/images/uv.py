"""One run of uv: bounded in time, its lines passed on as they come, its passwords left out."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import uv

from clary.images.pip_configuration import variables_for_uv

Progress = Callable[[str], None]

LINES_KEPT = 20
WATCH_SECONDS = 0.1
_PASSWORD = re.compile(r"(?<=//)[^/@\s]+@")


class EnvironmentFailed(Exception):
    """An environment could not be made; the text has uv's last lines and what can be done."""


def run(
    arguments: Sequence[str],
    *,
    directory: Path,
    timeout_seconds: float,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> list[str]:
    """Run uv in a folder and return the lines it printed; raise EnvironmentFailed if it fails.

    `stop` ends it early, as a process that is about to end itself wants.

    The folder keeps uv from finding a project, and with it settings, above the caller's own.
    """
    process = _start(arguments, directory)
    ended, expired = threading.Event(), threading.Event()
    deadline = time.monotonic() + timeout_seconds

    def watch() -> None:
        while not ended.wait(WATCH_SECONDS):
            if time.monotonic() > deadline or (stop is not None and stop.is_set()):
                expired.set()
                os.killpg(process.pid, signal.SIGKILL)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    lines: list[str] = []
    try:
        assert process.stdout is not None
        for raw in process.stdout:
            line = without_passwords(raw.rstrip())
            lines.append(line)
            if progress and line:
                progress(line)
        process.wait()
    finally:
        ended.set()
        watcher.join()
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()
        if process.stdout:
            process.stdout.close()
    if expired.is_set() and stop is not None and stop.is_set():
        raise EnvironmentFailed(_told(arguments, lines, "was ended with Clary"))
    if expired.is_set():
        raise EnvironmentFailed(_told(arguments, lines, f"took more than {timeout_seconds:.0f} s"))
    if process.returncode:
        raise EnvironmentFailed(_told(arguments, lines, f"failed with code {process.returncode}"))
    return lines


def _start(arguments: Sequence[str], directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [uv.find_uv_bin(), *arguments],
        cwd=directory,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def without_passwords(line: str) -> str:
    """The line without the user part of any address in it."""
    return _PASSWORD.sub("", line)


def _environment() -> dict[str, str]:
    """The caller's environment without the marks of an active virtual environment."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME")
    }
    return {
        **inherited,
        **variables_for_uv(),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "NO_COLOR": "1",
    }


def _told(arguments: Sequence[str], lines: Sequence[str], outcome: str) -> str:
    last = "\n".join(deque((line for line in lines if line), LINES_KEPT))
    return (
        f"`uv {' '.join(arguments[:2])}` {outcome}.\n{last}\n"
        "Check the network, pip's index settings (PIP_INDEX_URL, PIP_FIND_LINKS), the free disk "
        "space and the names and versions of the packages, then try again."
    )
