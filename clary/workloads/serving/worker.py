"""The threads in which a process runs predictions that are too long for its event loop."""

from __future__ import annotations

import os
import threading
import traceback
from asyncio import AbstractEventLoop
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Work = Callable[[Any], Any]
Finished = Callable[[Any, Any], None]


class ModelThreads:
    """Runs pieces of work and brings their outcomes back to the event loop.

    Threads are made as they are needed and then kept. With one thread the work is done in its
    order; with more, whoever hands it over sees to what must not run at once.
    """

    def __init__(self, loop: AbstractEventLoop, most: int = 1, name: str = "clary-model") -> None:
        self._loop = loop
        self._most = most
        self._name = name
        self._count = 0
        self._jobs: SimpleQueue = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._pid = os.getpid()

    def run(self, work: Work, subject: Any, finished: Finished) -> None:
        """Call `work(subject)` in a thread, then `finished(subject, outcome)` on the loop.

        Called on the event loop only. `work` must not raise: whoever calls this has turned errors
        into answers already.
        """
        self._jobs.put((work, subject, finished))
        if not self._idle.acquire(blocking=False) and self._count < self._most:
            self._count += 1
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()

    def close(self) -> None:
        """Let the threads end once they are idle."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _serve(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            work, subject, finished = job
            try:
                outcome = work(subject)
            except BaseException:  # noqa: BLE001
                # The queue would wait for ever: better that the process ends and is replaced.
                traceback.print_exc()
                os._exit(70)
            leave_if_forked(self._pid)
            try:
                self._loop.call_soon_threadsafe(finished, subject, outcome)
            except RuntimeError:
                return  # The loop was closed while this ran: nobody waits for the outcome.
            del job, work, subject, finished, outcome
            self._idle.release()


def leave_if_forked(pid: int) -> None:
    """End a process in which a model's code came back from a fork: its parent gives the answer."""
    if os.getpid() != pid:
        os._exit(0)
