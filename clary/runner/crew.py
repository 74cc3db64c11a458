"""A few threads that do pieces of work side by side, while whoever gave the work waits for it piece by piece."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

LOOK_SECONDS = 0.25


class Ticket:
    """One piece of work and, once done, what came of it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._done = threading.Event()
        self._value: Any = None
        self._fault: BaseException | None = None

    def is_done(self) -> bool:
        return self._done.is_set()

    def result(self, look: Callable[[], object]) -> Any:
        """What the work returned, or raise what it raised; `look` is called now and then, to give up by raising."""
        while not self._done.wait(LOOK_SECONDS):
            look()
        if self._fault is not None:
            raise self._fault
        return self._value

    def run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as fault:  # noqa: BLE001 - raised again by result()
            self._fault = fault
        self._done.set()


class Crew:
    """Threads that start when there is work for them; they are daemons, so that none outlives the runner."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: SimpleQueue[Ticket | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def give(self, work: Callable[[], Any]) -> Ticket:
        ticket = Ticket(work)
        if len(self._threads) < self._size:
            name = f"crew-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._serve, name=name, daemon=True))
            self._threads[-1].start()
        self._waiting.put(ticket)
        return ticket

    def close(self) -> None:
        """Let the threads end after what they have been given."""
        for _ in self._threads:
            self._waiting.put(None)

    def _serve(self) -> None:
        while True:
            ticket = self._waiting.get()
            if ticket is None:
                return
            ticket.run()
