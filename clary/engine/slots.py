"""The slots of this machine: which rows hold them, and which wait for them in the order of their arrival."""

from __future__ import annotations

import threading
import time

CALL_SECONDS = 2.0  # in which a row that was called is expected to take its slots


class Slots:
    """Counted in memory: a new process learns who holds slots, and who waits, by looking at its rows."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._taken: dict[int, int] = {}  # row id -> hosts that run, or are about to
        self._waiting: dict[int, int] = {}  # row id -> slots it waits for
        self._called: dict[int, tuple[int, float]] = {}  # row id -> those promised, until when
        self._guard = threading.Lock()

    def free(self) -> int:
        with self._guard:
            return self._free()

    def hold(self, row_id: int, hosts: int) -> None:
        """What was observed of a row: so many of its hosts run."""
        with self._guard:
            if hosts:
                self._taken[row_id] = hosts
            else:
                self._taken.pop(row_id, None)

    def reserve(self, row_id: int, hosts: int) -> bool:
        """Take slots for hosts that are about to be launched; a row that was called goes before one that was not."""
        with self._guard:
            others = sum(held for other, held in self._taken.items() if other != row_id)
            wanted = max(hosts, self._taken.get(row_id, 0))
            promised = self._promised(row_id)
            ahead = any(other < row_id for other in self._waiting)
            # A job of more hosts than the machine has slots runs alone rather than never.
            if (others + promised and others + promised + wanted > self.count) or (
                ahead and row_id not in self._called and row_id not in self._taken
            ):
                return False
            self._taken[row_id] = wanted
            self._waiting.pop(row_id, None)
            self._called.pop(row_id, None)
            return True

    def wait(self, row_id: int, slots: int) -> None:
        """A row waits for so many slots, for none any more with 0."""
        with self._guard:
            self._called.pop(row_id, None)
            if slots:
                self._waiting[row_id] = slots
            else:
                self._waiting.pop(row_id, None)

    def call(self) -> list[int]:
        """The rows whose turn it is; each is called once, and has a moment to take what it was promised."""
        with self._guard:
            if not self._waiting:
                return []
            free = self._free() - self._promised(0)
            found: list[int] = []
            for row_id in sorted(self._waiting):
                wanted = min(self._waiting[row_id], self.count)
                if wanted > free:
                    break  # nobody overtakes: a large job would wait for ever
                free -= wanted
                self._called[row_id] = (wanted, time.monotonic() + CALL_SECONDS)
                found.append(row_id)
            for row_id in found:
                del self._waiting[row_id]
            return found

    def _free(self) -> int:
        return self.count - sum(self._taken.values())

    def _promised(self, row_id: int) -> int:
        """To other rows than this one, unless their moment is over."""
        now = time.monotonic()
        over = [other for other, (_, until) in self._called.items() if until < now]
        for other in over:
            del self._called[other]
        return sum(wanted for other, (wanted, _) in self._called.items() if other != row_id)
