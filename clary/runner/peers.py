"""The hosts of one job agreeing on when all of them have written their part of a merged artifact.

The first host merges. It reads the other hosts' directories where they lie on the same machine, and
waits for each one's marker (or outcome). A host on another machine sends its part through S3, below
the artifact's own folder, and the first host deletes the parts when it has merged them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from .spec import HostSpec

MARKER = "outcome.json.part"
ENDED = "ended-"  # and a host's name: written by whoever watches over the hosts of several machines
LOOK_SECONDS = 0.1
FAILURE_SECONDS = 2.0
GONE_LOOKS = 50  # how often in a row a runner may be missing without an outcome


def beside(spec: HostSpec, host: str) -> bool:
    """Whether another host's directory can be read from here."""
    return (spec.shared / host).is_dir()


def announce(spec: HostSpec, result: str) -> None:
    """Say that this host's program has ended and its files will not change."""
    target = spec.directory / MARKER
    part = spec.directory / f"{MARKER}.{os.getpid()}"
    part.write_text(json.dumps({"result": result}), encoding="utf-8")
    part.replace(target)


def patience(spec: HostSpec, result: str) -> float:
    """How long the first host waits for the others, which may train on while it has ended."""
    if result == "success":
        return spec.limits.seconds + spec.grace_seconds + 60.0
    if result == "failure":
        # Control stops the others only once it has heard of this failure.
        return FAILURE_SECONDS
    return spec.grace_seconds + 60.0


def wait(spec: HostSpec, result: str, *, clock: Callable[[], float] = time.monotonic) -> list[str]:
    """Wait for the other hosts on this machine; return those that ended, in host order."""
    deadline = clock() + patience(spec, result)
    waiting = [host for host in spec.hosts if host != spec.host and beside(spec, host)]
    ended: list[str] = []
    missing = dict.fromkeys(waiting, 0)
    while waiting:
        for host in list(waiting):
            directory = spec.shared / host
            if _has_ended(directory):
                ended.append(host)
                waiting.remove(host)
                continue
            missing[host] = 0 if _may_live(directory) else missing[host] + 1
            if missing[host] > GONE_LOOKS:
                waiting.remove(host)
        if not waiting or clock() > deadline:
            break
        time.sleep(LOOK_SECONDS)
    return [host for host in spec.hosts if host in ended]


def ended_elsewhere(spec: HostSpec, host: str) -> bool:
    """Whether a host on another machine is known to have ended: it sends no part any more."""
    return (spec.directory / f"{ENDED}{host}").exists()


def _has_ended(directory: Path) -> bool:
    return (directory / MARKER).exists() or (directory / "outcome.json").exists()


def _may_live(directory: Path) -> bool:
    """Whether the host's runner is there, or has yet to start. Its lock is not ours to try."""
    try:
        text = (directory / "runner.lock").read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return True
    if not text.strip().isdigit():
        return True
    try:
        os.kill(int(text), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's process
    return True
