"""The last steps of a process before it becomes a program: a session, limits, streams, a folder, signals."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
from typing import Any, NamedTuple, NoReturn

_OUT_OF_MEMORY_SCORE = b"500"


class Outlets(NamedTuple):
    """The descriptors that a program starts with or is limited by."""

    output: int
    error: int
    groups: list[int]  # open cgroup.procs files to join


class last_words(contextlib.AbstractContextManager):  # type: ignore[type-arg]
    """Report whatever goes wrong in a forked child, then end it: it must never run its parent's code."""

    def __init__(self, report: socket.socket) -> None:
        self._report = report

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> NoReturn:
        if problem is not None:
            text = f"{type(problem).__name__}: {problem}"
            with contextlib.suppress(OSError):
                self._report.send(json.dumps({"failed": text[:2000]}).encode())
        os._exit(1)


def settle(recipe: dict[str, Any], outlets: Outlets) -> None:
    os.setsid()
    for group in outlets.groups:
        os.write(group, b"0")  # 0 is the writer itself; its children stay in the group
        os.close(group)
    for name, (soft, hard) in recipe["rlimits"].items():
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (soft, hard))
    be_killed_first()
    nothing = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((nothing, 0), (outlets.output, 1), (outlets.error, 2)):
        os.dup2(source, target)
    for descriptor in {nothing, outlets.output, outlets.error} - {0, 1, 2}:
        os.close(descriptor)
    os.umask(0o022)
    signal.set_wakeup_fd(-1)
    for number in signal.Signals:
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.chdir(recipe["directory"])


def be_killed_first() -> None:
    """Should the machine run out of memory, a program is to go before Clary and its runners."""
    with contextlib.suppress(OSError):  # where there is no such thing, the kernel's choice stands
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        try:
            os.write(score, _OUT_OF_MEMORY_SCORE)
        finally:
            os.close(score)


def execute(argv: list[str], environment: dict[str, str]) -> NoReturn:
    try:
        os.execvpe(argv[0], argv, environment)
    except OSError as problem:
        if isinstance(problem, FileNotFoundError) and "/" not in argv[0]:
            text = f'exec: "{argv[0]}": executable file not found in $PATH'
        else:
            text = f'exec: "{argv[0]}": {problem.strerror}'
        os.write(2, text.encode(errors="replace") + b"\n")
        os._exit(127 if isinstance(problem, FileNotFoundError) else 126)
