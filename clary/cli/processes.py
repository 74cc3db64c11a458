"""Starting and stopping the supervisor of one home."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from clary.cli.installation import Installation
from clary.cli.output import Problem
from clary.settings import Settings

START_SECONDS = 60.0
STOP_SECONDS = 40.0
POLL_SECONDS = 0.05
LOG_TAIL_LINES = 15
SOCKET_PATH_BYTES_MAX = 107  # the kernel's bound on the address of a Unix socket


def environment_of(settings: Settings, given: Mapping[str, str]) -> dict[str, str]:
    """The settings as variables, so that the supervisor's children read the same ones."""
    return {
        **given,
        "CLARY_HOME": str(settings.home),
        "CLARY_CACHE": str(settings.cache),
        "CLARY_HOST": settings.host,
        "CLARY_PORT": str(settings.port),
        "PYTHONPATH": _python_path(given),
        "PYTHONUNBUFFERED": "1",
    }


def command_of(settings: Settings, *options: str) -> list[str]:
    home, url = str(settings.home), settings.endpoint_url
    return [sys.executable, "-P", "-m", "clary.supervisor", home, url, *options]


def check_before_start(settings: Settings) -> None:
    """Say clearly what would otherwise end in a log file."""
    address = str(settings.run / "control.sock")
    if len(os.fsencode(address)) > SOCKET_PATH_BYTES_MAX:
        raise Problem(
            f"The path {address} is too long for a Unix socket.", "Choose a shorter CLARY_HOME."
        )
    if not port_is_free(settings.host, settings.port):
        raise Problem(
            f"Port {settings.port} on {settings.host} is taken by another program.",
            f"Choose another: clary up --port {free_port(settings.host)}",
        )


def start(
    installation: Installation, *options: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a detached supervisor and return at once."""
    settings = installation.settings
    logs = settings.home / "logs"
    for folder in (settings.home, logs, settings.run):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (logs / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            command_of(settings, *options),
            env=environment_of(settings, os.environ if environment is None else environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=settings.home,
            start_new_session=True,
        )


def wait_until_ready(installation: Installation, supervisor: subprocess.Popen[bytes]) -> None:
    """Return once door and control answer; raise a Problem with the end of the log if they do not."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if supervisor.poll() is not None:
            break
        if installation.health()[0] == 200 and installation.supervisor_pid == supervisor.pid:
            return
        time.sleep(POLL_SECONDS)
    alive = supervisor.poll() is None
    words = f"did not get ready within {START_SECONDS:g} s" if alive else "ended while starting"
    tail = log_tail(installation.home)
    raise Problem(f"Clary {words}.\n{tail}", f"Read {installation.home / 'logs'}, or: clary doctor")


def stop(installation: Installation, *, seconds: float = STOP_SECONDS) -> bool:
    """Stop the supervisor and wait for it; False if none ran."""
    pid = installation.supervisor_pid
    if not pid:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while installation.supervisor_pid == pid:
        if time.monotonic() > deadline:
            raise Problem(
                f"Clary (process {pid}) did not stop within {seconds:g} s.",
                f"Read {installation.home / 'logs'}; to end it by force: kill -9 {pid}",
            )
        time.sleep(POLL_SECONDS)
    return True


def log_tail(home: Path) -> str:
    """The last lines of the children's logs, for a problem's message."""
    found = []
    for name in ("control", "door", "supervisor"):
        path = home / "logs" / f"{name}.log"
        if path.is_file():
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - 8192))
                lines = file.read().decode("utf-8", "replace").splitlines()[-LOG_TAIL_LINES:]
            found += [f"  {name}: {line}" for line in lines]
    return "\n".join(found)


def port_is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def _python_path(given: Mapping[str, str]) -> str:
    """A checkout that is not installed has to be on the children's path."""
    source = Path(__file__).resolve().parents[2]
    known = given.get("PYTHONPATH", "")
    if source.name in ("site-packages", "dist-packages") or str(source) in known.split(os.pathsep):
        return known
    return os.pathsep.join(filter(None, (str(source), known)))
