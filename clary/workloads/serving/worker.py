"""The one thread in which a process runs predictions that are too long for its event loop."""

from __future__ import annotations

import os
import threading
import traceback
from asyncio import AbstractEventLoop
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class ModelThread:
    """Runs one piece of work at a time and brings its outcome back to the event loop."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: SimpleQueue = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="clary-model", daemon=True)
        self._thread.start()

    def run(
        self, work: Callable[[Any], Any], subject: Any, finished: Callable[[Any, Any], None]
    ) -> None:
        """Call `work(subject)` in the thread, then `finished(subject, outcome)` on the loop.

        `work` must not raise: whoever calls this has turned errors into answers already.
        """
        self._jobs.put((work, subject, finished))

    def close(self) -> None:
        """Let the thread end once it is idle."""
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
            self._loop.call_soon_threadsafe(finished, subject, outcome)
