"""The threads in which a process runs predictions that are too long for its event loop."""

from __future__ import annotations

import os
import threading
import traceback
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Python 3.8 cannot subscript these when the module is run.
    Work = Callable[[Any], Any]
    Finished = Callable[[Any, Any], None]
    Job = tuple[Work, Any, Finished]

# A piece of work that takes longer than this waits for something or leaves the interpreter's lock.
SLOW_SECONDS = 0.1


class ModelThreads:
    """Runs pieces of work and brings their outcomes back to the event loop.

    Threads are made as they are needed and then kept. With one thread the work is done in its
    order; with more, whoever hands it over sees to what must not run at once. No more run at a
    time than there are processors, since they would only wait for the interpreter's lock and make
    the event loop wait too; those that have run for long do not count.
    """

    def __init__(self, loop: AbstractEventLoop, most: int = 1, name: str = "clary-model") -> None:
        self._loop = loop
        self._most = most
        self._at_once = min(most, len(os.sched_getaffinity(0)))
        self._name = name
        self._threads = 0
        self._backlog: deque[Job] = deque()
        self._began: dict[int, float] = {}  # of what runs, by a number
        self._number = 0
        self._timer: Any = None
        self._jobs: SimpleQueue = SimpleQueue()
        self._pid = os.getpid()

    def run(self, work: Work, subject: Any, finished: Finished) -> None:
        """Call `work(subject)` in a thread, then `finished(subject, outcome)` on the loop.

        Called on the event loop only. `work` must not raise: whoever calls this has turned errors
        into answers already.
        """
        self._backlog.append((work, subject, finished))
        self._start()

    def close(self) -> None:
        """Let the threads end once they are idle."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _start(self) -> None:
        """Start of the backlog what may run now."""
        now = self._loop.time()
        while self._backlog and len(self._began) < self._most:
            if len(self._began) >= self._at_once:
                slow = sum(1 for began in self._began.values() if now - began > SLOW_SECONDS)
                if len(self._began) - slow >= self._at_once:
                    break
            self._number += 1
            self._began[self._number] = now
            self._jobs.put((self._number, self._backlog.popleft()))
            if len(self._began) > self._threads:
                self._threads += 1
                threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        if self._backlog and self._most > self._at_once and self._timer is None:
            self._timer = self._loop.call_later(SLOW_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self._start()

    def _done(self, number: int, job: Job, outcome: Any) -> None:
        del self._began[number]
        try:
            job[2](job[1], outcome)
        finally:
            if self._backlog:
                self._start()

    def _serve(self) -> None:
        while True:
            taken = self._jobs.get()
            if taken is None:
                return
            number, job = taken
            try:
                outcome = job[0](job[1])
            except BaseException:  # noqa: BLE001
                # The queue would wait for ever: better that the process ends and is replaced.
                traceback.print_exc()
                os._exit(70)
            leave_if_forked(self._pid)
            try:
                self._loop.call_soon_threadsafe(self._done, number, job, outcome)
            except RuntimeError:
                return  # The loop was closed while this ran: nobody waits for the outcome.
            # An idle thread must not keep the last request, or an unloaded model, alive.
            del taken, job, outcome


def leave_if_forked(pid: int) -> None:
    """End a process in which a model's code came back from a fork: its parent gives the answer."""
    if os.getpid() != pid:
        os._exit(0)
