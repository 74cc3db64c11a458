"""Which status may follow which: the only table that allows a status to change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """`transitions` maps each status to those that may follow it; one with no successor is terminal."""

    initial: str
    transitions: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    stopping: str = ""  # the status that Stop sets, for kinds that stop

    def allows(self, source: str, target: str) -> bool:
        return source == target or target in self.transitions.get(source, frozenset())

    def is_terminal(self, status: str) -> bool:
        return not self.transitions.get(status)


def _table(**rows: str) -> dict[str, frozenset[str]]:
    return {status: frozenset(following.split()) for status, following in rows.items()}


STATIC = Lifecycle("")

JOB = Lifecycle(
    "InProgress",
    _table(
        InProgress="Completed Failed Stopping",
        # A job that ends by itself while it is being stopped keeps its own outcome.
        Stopping="Stopped Completed Failed",
        Completed="",
        Failed="",
        Stopped="",
    ),
    stopping="Stopping",
)

ENDPOINT = Lifecycle(
    "Creating",
    _table(
        # Deleting may follow any: what is stuck must be able to go.
        Creating="InService Failed Deleting",
        InService="Updating SystemUpdating RollingBack Deleting OutOfService",
        Updating="InService Failed RollingBack UpdateRollbackFailed Deleting",
        SystemUpdating="InService Deleting",
        RollingBack="InService UpdateRollbackFailed Deleting",
        OutOfService="Deleting",
        Failed="Deleting",
        UpdateRollbackFailed="Deleting",
        Deleting="",
    ),
)
