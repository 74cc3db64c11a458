"""What control does by the clock beside its loop: alarms, retention, roll-ups."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Chore:
    name: str
    every_seconds: float
    work: Callable[[], object]


class Chores:
    """One thread does them in turn, so that none runs beside itself; a failure is told and tried again next time."""

    def __init__(self, chores: Sequence[Chore]) -> None:
        self._chores = chores
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chores", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        last = {chore.name: time.monotonic() for chore in self._chores}
        while not self._closing.wait(LOOK_SECONDS):
            for chore in self._chores:
                now = time.monotonic()
                if now - last[chore.name] < chore.every_seconds:
                    continue
                last[chore.name] = now
                try:
                    chore.work()
                except Exception:
                    log.exception("the chore %r failed; it is tried again later", chore.name)
