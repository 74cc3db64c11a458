"""The plan of every kind that runs hosts once and ends: training, processing and transform jobs.

What differs between them, their members and words, comes in as a `Form`. Pure: no clock, disk or database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from clary.reconcile.decisions import (
    Become,
    Decision,
    Forget,
    Halt,
    Launch,
    Prepare,
    Wait,
)
from clary.reconcile.observations import Absent, Exited, Observation, Running, Unknown
from clary.reconcile.outcomes import Verdict, verdict_of
from clary.reconcile.seen import Seen
from clary.store.rows import Row

PREPARING_SECONDS = 0.5
QUEUED_SECONDS = 10.0  # its turn is told
RUNNING_SECONDS = 5.0
UNKNOWN_SECONDS = 1.0


class Form(Protocol):
    """The members in which one kind tells its progress and its end. Pure functions of their arguments."""

    def hosts(self, row: Row) -> tuple[str, ...]: ...
    def log_place(self, row: Row) -> str: ...
    def waiting(self, row: Row, now: float, message: str) -> dict[str, Any]: ...
    def progress(self, row: Row, running: Running) -> dict[str, Any]: ...
    def stopping(self, row: Row, now: float) -> dict[str, Any]: ...
    def ended(self, row: Row, verdict: Verdict) -> dict[str, Any]: ...


class Restarts(Protocol):
    """When an attempt's end is not the end of its job. Pure functions of their arguments.

    A job waits for its next attempt while `state["resume_at"]` is set. An attempt is a generation: the
    hosts of the one before are gone, files and all, before the next is launched.
    """

    def overdue(self, row: Row, now: float) -> Become | None:
        """What to write down once a job that runs or waits may do so no longer."""
        ...

    def interruption(self, row: Row, now: float) -> Become | None:
        """What to write down when the running attempt is to be interrupted; `state["interrupting"]` is set by it."""
        ...

    def again(self, row: Row, verdict: Verdict, now: float) -> Become | None:
        """What to write down when an attempt ended and another is due; it sets `state["resume_at"]`."""
        ...

    def resumed(self, row: Row, now: float) -> Become:
        """What to write down when the next attempt is launched."""
        ...

    def afterwards(self, row: Row, now: float) -> Sequence[Decision] | None:
        """What is still to be done for an ended job; None where its hosts may go."""
        ...


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A plan, as the declaration of a kind takes it: `plan=JobPlan(form)`."""

    form: Form
    restarts: Restarts | None = None

    def __call__(self, row: Row, seen: Seen) -> Sequence[Decision]:
        if row.status in ("Completed", "Failed", "Stopped"):
            kept = self.restarts.afterwards(row, seen.now) if self.restarts else None
            if kept is not None:
                return kept
            left = tuple(seen.hosts)
            return [Forget(left)] if left else []
        if row.state.get("resume_at") and seen.hosts:
            return self._clear(row, seen)
        if self.restarts is not None and row.status == "InProgress":
            overdue = self.restarts.overdue(row, seen.now)
            if overdue is not None:
                return [overdue, Wait(0.0)]
        if not row.state.get("hosts"):
            return self._begin(row, seen)
        return self._continue(row, seen)

    def _clear(self, row: Row, seen: Seen) -> Sequence[Decision]:
        """The attempt before has been written down as ended: its hosts go, and the next generation begins."""
        generation = int(row.state.get("generation", 1)) + 1
        fresh = {"generation": generation, "halted": [], "interrupting": ""}
        return [Forget(tuple(seen.hosts)), Become(state=fresh), Wait(0.0)]

    def _begin(self, row: Row, seen: Seen) -> Sequence[Decision]:
        """Nothing was launched yet."""
        if row.status == "Stopping":
            return [self._end(row, Verdict("stopped", ended=seen.now))]
        hosts = self.form.hosts(row)
        resume_at = float(row.state.get("resume_at") or 0.0)
        if resume_at > seen.now:
            return [Wait(resume_at - seen.now)]
        match seen.preparation.status:
            case "failed":
                reason = f"ClientError: {seen.preparation.message}"[:1024]
                return [self._end(row, Verdict("failure", reason, ended=seen.now))]
            case "absent":
                return [Prepare(), Wait(PREPARING_SECONDS)]
            case "building":
                told = self.form.waiting(row, seen.now, seen.preparation.message)
                return [Become(fields=told), Wait(PREPARING_SECONDS)]
            case _:
                pass
        # A job of more hosts than there are slots runs when all are free, rather than never.
        if seen.slots_free < min(len(hosts), seen.slots):
            told = self.form.waiting(row, seen.now, "Waiting for capacity on this installation")
            return [Become(fields=told), Wait(QUEUED_SECONDS, len(hosts))]
        if resume_at and self.restarts is not None:
            return [self.restarts.resumed(row, seen.now), Launch(hosts), Wait(RUNNING_SECONDS)]
        return [Launch(hosts), Wait(RUNNING_SECONDS)]

    def _continue(self, row: Row, seen: Seen) -> Sequence[Decision]:
        """Hosts were launched, or the intent to launch them was written."""
        by_type = sort_hosts(seen.hosts)
        if by_type.unknown:
            return [Wait(UNKNOWN_SECONDS)]
        if row.status == "Stopping":
            return self._stop(row, seen, by_type)
        if row.state.get("interrupting"):
            left = (*by_type.absent, *by_type.running)
            if by_type.running:
                return [Halt(left), Wait(RUNNING_SECONDS)]
            return self._finish(row, by_type.exited, seen.now)
        if by_type.absent:
            return [Launch(by_type.absent), Wait(RUNNING_SECONDS)]
        if by_type.running:
            if any(one.result != "success" for one in by_type.exited.values()):
                return [Halt(by_type.running), Wait(UNKNOWN_SECONDS)]
            cut = self.restarts.interruption(row, seen.now) if self.restarts else None
            if cut is not None:
                return [cut, Halt(by_type.running), Wait(UNKNOWN_SECONDS)]
            leader = seen.hosts[min(by_type.running)]
            assert isinstance(leader, Running)
            return [Become(fields=self.form.progress(row, leader)), Wait(RUNNING_SECONDS)]
        return self._finish(row, by_type.exited, seen.now)

    def _stop(self, row: Row, seen: Seen, by_type: SortedHosts) -> Sequence[Decision]:
        """Halt what runs; a host that was halted before it started never will, so it counts as ended."""
        halted = set(row.state.get("halted", []))
        left = tuple(key for key in (*by_type.absent, *by_type.running) if key not in halted)
        if left:
            told = Become(
                fields=self.form.stopping(row, seen.now), state={"halted": sorted({*halted, *left})}
            )
            return [told, Halt(left), Wait(UNKNOWN_SECONDS)]
        if by_type.running:
            return [Wait(RUNNING_SECONDS)]
        if not by_type.exited:
            return [self._end(row, Verdict("stopped", ended=seen.now)), Wait(0.0)]
        return self._finish(row, by_type.exited, seen.now)

    def _finish(self, row: Row, exits: Mapping[str, Exited], now: float) -> Sequence[Decision]:
        verdict = verdict_of(exits, self.form.log_place(row))
        if self.restarts is not None and row.status == "InProgress":
            again = self.restarts.again(row, verdict, now)
            if again is not None:
                return [again, Wait(0.0)]
        end = self._end(row, verdict)
        # Its files go in a turn of their own, after the end was written down: Wait keeps the row due.
        if end.status == "Stopped" and row.status != "Stopping":
            return [Become("Stopping"), end, Wait(0.0)]
        return [end, Wait(0.0)]

    def _end(self, row: Row, verdict: Verdict) -> Become:
        status = {"success": "Completed", "failure": "Failed"}.get(verdict.result, "Stopped")
        return Become(status, self.form.ended(row, verdict))


@dataclass(frozen=True, slots=True)
class SortedHosts:
    absent: tuple[str, ...]
    running: tuple[str, ...]
    unknown: tuple[str, ...]
    exited: Mapping[str, Exited]


def sort_hosts(hosts: Mapping[str, Observation]) -> SortedHosts:
    return SortedHosts(
        absent=tuple(key for key, one in hosts.items() if isinstance(one, Absent)),
        running=tuple(key for key, one in hosts.items() if isinstance(one, Running)),
        unknown=tuple(key for key, one in hosts.items() if isinstance(one, Unknown)),
        exited={key: one for key, one in hosts.items() if isinstance(one, Exited)},
    )
