"""Several serving processes behind one socket, forked after the model is loaded."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from types import FrameType

from clary.workloads.serving.service import REPLACE_ME

log = logging.getLogger("clary.serving")

DEATHS_MAX = 5
DEATHS_SECONDS = 60.0


class _Stop(Exception):
    """The supervisor was told to end."""


def supervise(serve: Callable[[], int], workers: int, grace_seconds: float) -> int:
    """Keep `workers` forks of `serve` alive until SIGTERM; give up if they keep dying."""
    children: set[int] = set()
    deaths: deque[float] = deque(maxlen=DEATHS_MAX)

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stop

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while True:
            while len(children) < workers:
                children.add(_fork(serve, list(previous)))
            pid, status = os.wait()
            if pid not in children:
                continue
            children.discard(pid)
            if _code(status) == REPLACE_ME:
                continue
            log.error("Serving process %d ended with status %d.", pid, _code(status))
            deaths.append(time.monotonic())
            if len(deaths) == DEATHS_MAX and deaths[-1] - deaths[0] < DEATHS_SECONDS:
                log.error("Serving processes keep dying: giving up.")
                _end(children, grace_seconds)
                return 1
    except _Stop:
        for number in previous:
            signal.signal(number, signal.SIG_IGN)
        _end(children, grace_seconds)
        return 0
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _fork(serve: Callable[[], int], signals: list[int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)
        code = serve()
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end(children: set[int], grace_seconds: float) -> None:
    """Ask all children to end, wait, and kill what has not ended."""
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds + 2
    while children:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        children.discard(pid)
        if pid:
            continue
        if time.monotonic() > deadline:
            for late in children:
                os.kill(late, signal.SIGKILL)
            deadline += 3600
        time.sleep(0.02)


def _code(status: int) -> int:
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
