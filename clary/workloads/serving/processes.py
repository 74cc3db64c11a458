"""Serving processes behind one socket: forks of a parent, which makes new ones in place of the dead.

The socket stays open meanwhile, so whoever connects while the only process is replaced waits for the
next one.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import struct
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from clary.workloads.serving import orphans
from clary.workloads.serving.service import REPLACE_ME

log = logging.getLogger("clary.serving")

if TYPE_CHECKING:
    # Python 3.8 cannot subscript this when the module is run.
    Serve = Callable[["Fork"], int]

# Whoever served for less died of its first requests: if several do, the next one waits a little.
YOUNG_SECONDS = 1.0
DEATHS_FREE = 8
DEATHS_SECONDS = 60.0
PAUSE_SECONDS = 0.05
PAUSE_SECONDS_MAX = 0.5
# Deaths before the model was loaded, one after another, of a server that has served before.
LOADING_DEATHS_MAX = 3
# A process that ends so cannot serve at all, and neither could another.
CANNOT_SERVE = 78

STOPS = (signal.SIGTERM, signal.SIGINT)


class Fork:
    """One serving process, as it and its parent see it."""

    def __init__(self, *, replaces: bool) -> None:
        self.replaces = replaces  # whether another one has served before it
        self._shared = mmap.mmap(-1, 8)

    def begin(self) -> None:
        """Called by the process itself: its model is loaded, and it serves."""
        struct.pack_into("d", self._shared, 0, time.monotonic())

    @property
    def began(self) -> float:
        """When it began to serve; 0 before that."""
        return struct.unpack_from("d", self._shared, 0)[0]


class Processes:
    """The serving processes that live, and what became of those before them."""

    def __init__(self, serve: Serve, workers: int, grace_seconds: float) -> None:
        self._serve = serve
        self._workers = workers
        self._grace_seconds = grace_seconds
        self._forks: dict[int, Fork] = {}
        self._young: deque[float] = deque(maxlen=64)  # when those died that served but a moment
        self._loading_deaths = 0
        self._has_served = False
        self._ends_orphans = workers == 1 and orphans.adopt()

    def fill(self, mask: Iterable[int]) -> None:
        while len(self._forks) < self._workers:
            fork = Fork(replaces=self._has_served)
            self._forks[_fork(self._serve, fork, mask)] = fork

    def bury(self) -> int | None:
        """Take the dead out; return the exit code where no others are to follow them."""
        # Several that end at once may be told of by a single signal. Processes that a model's code
        # has started are not waited for here: it may do so itself.
        for pid in list(self._forks):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                code = self._learn(self._forks.pop(pid), _code(status))
                if code is not None:
                    return code
        if self._ends_orphans:
            orphans.bury(self._forks)
        return None

    def _learn(self, fork: Fork, code: int) -> int | None:
        self._has_served = self._has_served or any(
            one.began for one in (fork, *self._forks.values())
        )
        if self._ends_orphans:
            orphans.end(())
        if code == REPLACE_ME:
            return None
        if code == CANNOT_SERVE:
            return 1  # it has said why
        where = "" if fork.began else " while it loaded the model"
        log.error("A serving process %s%s.", _told(code), where)
        if fork.began:
            self._loading_deaths = 0
            if time.monotonic() - fork.began < YOUNG_SECONDS:
                self._young.append(time.monotonic())
            return None
        self._loading_deaths += 1
        if self._has_served and self._loading_deaths < LOADING_DEATHS_MAX:
            return None
        return code or 1

    def pause(self) -> float:
        """How long to wait before the next one: only where they keep dying."""
        since = time.monotonic() - DEATHS_SECONDS
        many = sum(1 for died in self._young if died > since) - DEATHS_FREE
        if many <= 0 or len(self._forks) == self._workers:
            return 0.0
        return min(PAUSE_SECONDS * 2.0 ** min(many, 16), PAUSE_SECONDS_MAX)

    def end(self) -> None:
        """Ask all to end, wait, and kill what has not ended."""
        for pid in self._forks:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + self._grace_seconds + 2
        while self._forks:
            for pid in list(self._forks):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    del self._forks[pid]
            if time.monotonic() > deadline:
                for late in self._forks:
                    os.kill(late, signal.SIGKILL)
                deadline += 3600
            time.sleep(0.005)


def supervise(serve: Serve, workers: int, grace_seconds: float) -> int:
    """Keep `workers` forks of `serve` alive until SIGTERM; return the exit code.

    It is a signal's number, negative, where that killed the process which was to be the first.
    """
    # Blocked signals are waited for in one place. A handler that raises would be lost wherever
    # the interpreter swallows exceptions, and one that only notes could come just before a wait.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOPS, signal.SIGCHLD))
    living = Processes(serve, workers, grace_seconds)
    try:
        while True:
            pause = living.pause()
            if pause and signal.sigtimedwait(STOPS, pause) is not None:
                return _stopped(living)
            living.fill(before)
            if signal.sigwait((*STOPS, signal.SIGCHLD)) in STOPS:
                return _stopped(living)
            code = living.bury()
            if code is not None:
                living.end()
                return code
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave(code: int) -> None:
    """End this process as the one ended whose code this is: whoever watches sees what killed it."""
    if code >= 0:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)


def _stopped(living: Processes) -> int:
    living.end()
    return 0


def _fork(serve: Serve, fork: Fork, mask: Iterable[int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = serve(fork)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _code(status: int) -> int:
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _told(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
