"""The last steps of a process before it becomes a program: a session, limits, streams, a folder, signals."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from typing import Any, Dict, List, NamedTuple, NoReturn


class Outlets(NamedTuple):
    """The descriptors that a program starts with or is limited by."""

    output: int
    error: int
    groups: List[int]  # open cgroup.procs files to join


def settle(recipe: Dict[str, Any], outlets: Outlets) -> None:
    os.setsid()
    for group in outlets.groups:
        os.write(group, b"0")  # 0 is the writer itself; its children stay in the group
        os.close(group)
    for name, (soft, hard) in recipe["rlimits"].items():
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (soft, hard))
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


def execute(argv: List[str], environment: Dict[str, str]) -> NoReturn:
    try:
        os.execvpe(argv[0], argv, environment)
    except OSError as problem:
        if isinstance(problem, FileNotFoundError) and "/" not in argv[0]:
            text = 'exec: "%s": executable file not found in $PATH' % argv[0]
        else:
            text = 'exec: "%s": %s' % (argv[0], problem.strerror)
        os.write(2, text.encode(errors="replace") + b"\n")
        os._exit(127 if isinstance(problem, FileNotFoundError) else 126)
