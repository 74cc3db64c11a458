"""A world of hosts without processes: everything an executor promises, and every fault it may show."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from clary.reconcile.decisions import Call
from clary.reconcile.observations import Absent, Exited, Observation, Running, Unknown
from clary.reconcile.seen import READY, Preparation
from clary.store.rows import Row


@dataclass
class Host:
    running: bool = False
    halted: bool = False
    outcome: dict[str, Any] | None = None
    launches: int = 0  # how often a program really started


@dataclass
class SimulatedWorld:
    capacity: int = 2
    hosts: dict[tuple[int, str], Host] = field(default_factory=dict)
    unseen: set[int] = field(default_factory=set)  # rows whose hosts cannot be told for now
    prepared: Preparation = READY
    refuses_to_launch: bool = False
    forgotten: list[tuple[int, str]] = field(default_factory=list)

    def host(self, row_id: int, key: str) -> Host:
        return self.hosts.setdefault((row_id, key), Host())

    def running(self, row_id: int) -> list[str]:
        return [key for (owner, key), one in self.hosts.items() if owner == row_id and one.running]

    def end(self, row_id: int, key: str, result: str, at: float) -> None:
        host = self.host(row_id, key)
        if host.running:
            host.running = False
            host.outcome = {
                "result": result,
                "exit_code": 0 if result == "success" else 1,
                "failure": "" if result == "success" else "it broke",
                "failure_source": "algorithm",
                "started": at - 1.0,
                "ended": at,
                "phases": [["Downloading", at - 1.0], ["Training", at - 0.5]],
                "metrics": {"validation:auc": [0.9, at]},
                "outputs": {"model": {"uri": "s3://b/model.tar.gz", "bytes": 1, "files": 1}},
            }

    # What the loop asks ---------------------------------------------------------------------------

    def observe(self, row: Row) -> dict[str, Observation]:
        return {key: self._observe(row.id, key) for key in row.state.get("hosts", {})}

    def _observe(self, row_id: int, key: str) -> Observation:
        if row_id in self.unseen:
            return Unknown("the node does not answer")
        host = self.host(row_id, key)
        if host.outcome is not None:
            return Exited(host.outcome)
        return (
            Running("Training", (("Downloading", 1.0),), ready=True) if host.running else Absent()
        )

    def preparation(self, row: Row) -> Preparation:
        return self.prepared

    def slots(self) -> tuple[int, int]:
        return self.capacity, self.capacity - sum(host.running for host in self.hosts.values())

    def reserve(self, row: Row, hosts: tuple[str, ...]) -> bool:
        return True

    def waits(self, row: Row, slots: int) -> None:
        """Every queued row is looked at again by the clock alone."""

    def prepare(self, row: Row) -> None:
        self.prepared = READY

    def launch(self, row: Row, hosts: tuple[str, ...]) -> None:
        if self.refuses_to_launch:
            raise OSError("no process may be started now")
        for key in hosts:
            host = self.host(row.id, key)
            if host.running or host.outcome is not None or host.halted:
                continue
            host.running = True
            host.launches += 1

    def halt(self, row: Row, hosts: tuple[str, ...]) -> None:
        for key in hosts:
            self.host(row.id, key).halted = True

    def forget(self, row: Row, hosts: tuple[str, ...]) -> None:
        for key in hosts:
            assert not self.host(row.id, key).running, "a running host must not be forgotten"
            self.forgotten.append((row.id, key))

    def call(self, row: Row, call: Call) -> None:
        raise AssertionError(f"no job plan calls the API, this one wants {call.operation}")

    def changed(self) -> Iterable[int]:
        return ()

    def patience(self) -> float:
        return 1.0

    def committing(self, row: Row, *, stays: bool = True) -> AbstractContextManager[None]:
        return nullcontext()  # nothing is published here
