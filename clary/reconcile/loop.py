"""The one loop: lease a row, observe, plan, write under the row's guard, then act.

    due row ──lease──▶ observe ──▶ plan ──▶ write (guarded) ──▶ act ──▶ next time
                          ▲                                      │
                          └────────── the world ◀────────────────┘

A launch is written down before it is done, and every act is idempotent: whatever instant the process dies at, the next
look sees the same world and decides the same. A wake-up only shortens the wait; it carries no data.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from clary.reconcile.decisions import (
    Become,
    Call,
    Decision,
    Forget,
    Halt,
    Launch,
    Prepare,
    Vanish,
    Wait,
)
from clary.reconcile.lifecycles import Lifecycle
from clary.reconcile.observations import Observation
from clary.reconcile.seen import Preparation, Seen
from clary.store.rows import Event, Row, RowChanged, Rows

log = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
QUEUED_SECONDS = 10.0  # of a row that is called when it is its turn
BUSY_SECONDS = 0.05
PASS_SECONDS = 0.002  # hints that come closer than this are followed together
LOOK_SECONDS_MAX = 10.0  # of a row with unfinished work, whatever its plan says
BATCH_ROWS_MAX = 256
BACKOFF_SECONDS = (0.2, 1.0, 5.0, 30.0)


class World(Protocol):
    """What the loop observes and acts upon; `server.py` joins the executor, images and API to it.

    Every method may be called again with the same arguments and must then change nothing more. An exception
    is a passing fault: the row is looked at again after a back-off.
    """

    def observe(self, row: Row) -> dict[str, Observation]: ...
    def preparation(self, row: Row) -> Preparation: ...
    def slots(self) -> tuple[int, int]: ...  # all, and those not taken
    def reserve(self, row: Row, hosts: tuple[str, ...]) -> bool: ...
    def waits(self, row: Row, slots: int) -> None: ...  # for so many slots; 0: not any more
    def prepare(self, row: Row) -> None: ...
    def launch(self, row: Row, hosts: tuple[str, ...]) -> None: ...
    def halt(self, row: Row, hosts: tuple[str, ...]) -> None: ...
    def forget(self, row: Row, hosts: tuple[str, ...]) -> None: ...
    def call(self, row: Row, call: Call) -> None: ...
    def changed(
        self,
    ) -> Iterable[int]: ...  # ids of rows whose hosts wrote something since last asked
    def patience(self) -> float: ...  # seconds in which `changed` should be asked again
    # A change that clients can see is committed within it; one that `stays` False is deleted.
    def committing(self, row: Row, *, stays: bool = True) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class Planned:
    """What the loop must know of a kind."""

    plan: Callable[[Row, Seen], Sequence[Decision]]
    lifecycle: Lifecycle


class Loop:
    """Looks at every due row, a few at a time; `step` is one pass, for tests and for `run`."""

    def __init__(
        self,
        rows: Rows,
        kinds: Mapping[str, Planned],
        world: World,
        clock: Callable[[], float],
        *,
        workers: int = 4,
        checkpoint: Callable[[str], None] = lambda point: None,
    ) -> None:
        self._rows = rows
        self._kinds = kinds
        self._world = world
        self._clock = clock
        self._checkpoint = checkpoint  # tests die here, at each of the points that matter
        self._owner = uuid.uuid4().hex
        self._workers = workers
        self._hint = threading.Event()
        self._closing = threading.Event()
        self._busy: set[int] = set()
        self._again: set[int] = set()
        self._guard = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        thread = threading.Thread(target=self.run, name="reconcile", daemon=True)
        thread.start()
        self._threads.append(thread)

    def wake(self) -> None:
        self._hint.set()

    def close(self) -> None:
        self._closing.set()
        self._hint.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def run(self) -> None:
        """Until `close`: hand due rows to a few workers, then sleep until the next is due or a hint comes."""
        with ThreadPoolExecutor(self._workers, thread_name_prefix="plan") as pool:
            while not self._closing.is_set():
                began = time.monotonic()
                self._hint.clear()
                ready = [row_id for row_id in self._ready() if self._take(row_id)]
                for row_id in ready:
                    pool.submit(self._look_and_release, row_id)
                # Rows that are being looked at give a hint when they are done.
                idle = BUSY_SECONDS if ready else self._idle_seconds()
                if self._hint.wait(min(idle, self._world.patience())):
                    self._closing.wait(max(0.0, began + PASS_SECONDS - time.monotonic()))

    def step(self) -> int:
        """Look once at every row that is due now, in this thread; return how many."""
        ready = self._ready()
        for row_id in ready:
            self.look(row_id)
        return len(ready)

    def look(self, row_id: int) -> None:
        """One turn of one row: lease, observe, plan, write, act."""
        now = self._clock()
        row = self._rows.lease(row_id, self._owner, now, LEASE_SECONDS)
        if row is None or row.kind not in self._kinds:
            return
        self._checkpoint("leased")
        try:
            self._turn(row, now)
        except RowChanged:
            self._release(row_id, now)  # somebody wrote first: look again at once
        except Exception as problem:
            # The only broad catch of Clary: one row's trouble must not stop the others.
            log.exception("%s %s: this turn failed", row.kind, row.name)
            self._fault(row_id, problem)

    def _turn(self, row: Row, now: float) -> None:
        planned = self._kinds[row.kind]
        hosts = self._world.observe(row)
        slots, slots_free = self._world.slots()
        seen = Seen(
            now=now,
            hosts=hosts,
            slots=slots,
            slots_free=slots_free,
            preparation=self._world.preparation(row),
        )
        self._checkpoint("observed")
        decisions = planned.plan(row, seen)
        self._checkpoint("planned")
        if any(isinstance(one, Vanish) for one in decisions):
            self._world.forget(row, tuple(seen.hosts))
            with self._world.committing(row, stays=False):
                self._rows.delete(row, Event("transition", {"from": row.status, "to": "Deleted"}))
            return
        decisions = self._within_capacity(row, decisions)
        # Before the write that strikes them: hosts whose files cannot be removed yet stay in the row.
        for decision in decisions:
            if isinstance(decision, Forget):
                self._world.forget(row, decision.hosts)
        self._write(row, decisions, planned.lifecycle, now)
        slots = max((one.slots for one in decisions if isinstance(one, Wait)), default=0)
        self._world.waits(row, slots)
        self._checkpoint("written")
        for decision in decisions:
            self._act(row, decision)
            self._checkpoint("acted")

    def _within_capacity(self, row: Row, decisions: Sequence[Decision]) -> list[Decision]:
        """A launch that finds no free slot any more waits; another row may have taken it since."""
        kept: list[Decision] = []
        for decision in decisions:
            if isinstance(decision, Launch) and not self._world.reserve(row, decision.hosts):
                return [Wait(QUEUED_SECONDS, len(decision.hosts))]
            kept.append(decision)
        return kept

    def _write(
        self, row: Row, decisions: Sequence[Decision], lifecycle: Lifecycle, now: float
    ) -> None:
        before = row.status
        changed = apply(row, decisions, lifecycle)
        waits = [one.seconds for one in decisions if isinstance(one, Wait)]
        finished = lifecycle.is_terminal(row.status) and not waits
        row.due = None if finished else now + min([*waits, LOOK_SECONDS_MAX])
        row.lease_owner, row.lease_until = "", 0.0
        row.state.pop("faults", None)
        row.state.pop("problem", None)
        happened = [Event("transition", {"from": before, "to": row.status})]
        with self._world.committing(row) if changed else nullcontext():
            self._rows.update(row, *(happened if row.status != before else []), touch=changed)

    def _act(self, row: Row, decision: Decision) -> None:
        match decision:
            case Prepare():
                self._world.prepare(row)
            case Launch(hosts):
                self._world.launch(row, hosts)
            case Halt(hosts):
                self._world.halt(row, hosts)
            case Call():
                self._world.call(row, decision)
            case _:
                pass  # Wait, Become, Forget and Vanish were carried out with the write

    def _ready(self) -> list[int]:
        due = self._rows.due(self._clock(), BATCH_ROWS_MAX)
        changed = [row_id for row_id in self._world.changed() if row_id not in due]
        return [*due, *changed]

    def _take(self, row_id: int) -> bool:
        with self._guard:
            if row_id in self._busy:
                self._again.add(row_id)
                return False
            self._busy.add(row_id)
            return True

    def _look_and_release(self, row_id: int) -> None:
        while True:
            try:
                self.look(row_id)
            finally:
                with self._guard:
                    again = row_id in self._again
                    self._again.discard(row_id)
                    if not again:
                        self._busy.discard(row_id)
            if not again or self._closing.is_set():
                break
        self._hint.set()

    def _idle_seconds(self) -> float:
        upcoming = self._rows.next_due()
        if upcoming is None:
            return 1.0
        return min(max(upcoming - self._clock(), 0.002), 1.0)

    def _release(self, row_id: int, now: float) -> None:
        row = self._rows.by_id(row_id)
        if row is not None and row.lease_owner == self._owner:
            row.lease_owner, row.lease_until, row.due = "", 0.0, now
            self._update_if_unchanged(row)

    def _fault(self, row_id: int, problem: Exception) -> None:
        row = self._rows.by_id(row_id)
        if row is None:
            return
        faults = int(row.state.get("faults", 0)) + 1
        row.state["faults"] = faults
        row.state["problem"] = f"{type(problem).__name__}: {problem}"[:1024]
        row.lease_owner, row.lease_until = "", 0.0
        row.due = self._clock() + BACKOFF_SECONDS[min(faults, len(BACKOFF_SECONDS)) - 1]
        self._update_if_unchanged(row)

    def _update_if_unchanged(self, row: Row) -> None:
        try:
            self._rows.update(row, touch=False)
        except RowChanged:
            log.info(
                "%s %s was written meanwhile; its lease runs out by itself", row.kind, row.name
            )


def apply(row: Row, decisions: Sequence[Decision], lifecycle: Lifecycle) -> bool:
    """Write decisions into a row; True if anything a client can see changed. Assert that transitions are legal."""
    before = (row.status, dict(row.document), dict(row.state))
    for decision in decisions:
        match decision:
            case Become(status, fields, state):
                if status:
                    assert lifecycle.allows(row.status, status), (
                        f"{row.kind}: {row.status} may not become {status}"
                    )
                    row.status = status
                row.document.update(fields)
                row.state.update(state)
            case Launch(hosts):
                launched: dict[str, Any] = dict(row.state.get("hosts", {}))
                for host in hosts:
                    launched.setdefault(host, {"generation": row.state.get("generation", 1)})
                row.state["hosts"] = launched
            case Forget(hosts):
                known: dict[str, Any] = row.state.get("hosts", {})
                row.state["hosts"] = {key: one for key, one in known.items() if key not in hosts}
            case _:
                pass
    return (row.status, row.document, row.state) != before
