"""Several serving processes behind one socket, forked after the model is loaded."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable

from clary.workloads.serving.service import REPLACE_ME

log = logging.getLogger("clary.serving")

DEATHS_MAX = 5
DEATHS_SECONDS = 60.0
# Whoever lived longer did serve, and was killed by a request: that must not end the service of others.
YOUNG_SECONDS = 1.0
# A process that ends so cannot serve at all, and neither could another.
CANNOT_SERVE = 78


STOPS = (signal.SIGTERM, signal.SIGINT)


def supervise(serve: Callable[[], int], workers: int, grace_seconds: float) -> int:
    """Keep `workers` forks of `serve` alive until SIGTERM; give up if they keep dying."""
    children: dict[int, float] = {}  # when each was made
    deaths: deque[float] = deque(maxlen=DEATHS_MAX)
    # Blocked signals are waited for in one place. A handler that raises would be lost wherever
    # the interpreter swallows exceptions, and one that only notes could come just before a wait.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOPS, signal.SIGCHLD))
    try:
        while True:
            while len(children) < workers:
                children[_fork(serve, before)] = time.monotonic()
            if signal.sigwait((*STOPS, signal.SIGCHLD)) in STOPS:
                _end(children, grace_seconds)
                return 0
            for status, lived in _buried(children):
                log.error("A serving process ended with status %d.", status)
                if status == CANNOT_SERVE:
                    _end(children, grace_seconds)
                    return 1
                if lived < YOUNG_SECONDS:
                    deaths.append(time.monotonic())
            if len(deaths) == DEATHS_MAX and deaths[-1] - deaths[0] < DEATHS_SECONDS:
                log.error("Serving processes keep dying: giving up.")
                _end(children, grace_seconds)
                return 1
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _buried(children: dict[int, float]) -> list[tuple[int, float]]:
    """Take the dead out of `children`; return how those ended that did not ask for it, and how old."""
    found = []
    # Several that end at once may be told of by a single signal. Processes that a model's code
    # has started are not waited for here: it may do so itself.
    for child in list(children):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            lived = time.monotonic() - children.pop(pid)
            if _code(status) != REPLACE_ME:
                found.append((_code(status), lived))
    return found


def _fork(serve: Callable[[], int], mask: Iterable[int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = serve()
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end(children: dict[int, float], grace_seconds: float) -> None:
    """Ask all children to end, wait, and kill what has not ended."""
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds + 2
    while children:
        _buried(children)
        if time.monotonic() > deadline:
            for late in children:
                os.kill(late, signal.SIGKILL)
            deadline += 3600
        time.sleep(0.02)


def _code(status: int) -> int:
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
