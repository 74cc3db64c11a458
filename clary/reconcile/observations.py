"""What an executor can say about one workload host: a closed union, in which not knowing is a value of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Absent:
    """It was never started; nothing of it runs."""


@dataclass(frozen=True, slots=True)
class Running:
    """It runs, or is being started."""

    phase: str = ""
    phases: tuple[tuple[str, float], ...] = ()
    ready: bool = False  # a serving host passed its health check
    message: str = ""
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    facts: dict[str, Any] = field(default_factory=dict[str, Any])  # of a child resource


@dataclass(frozen=True, slots=True)
class Exited:
    """It ended, or its keeper is proven gone; `outcome` is the runner's, with `result` "lost" in the latter case."""

    outcome: dict[str, Any]

    @property
    def result(self) -> str:
        return str(self.outcome.get("result", "lost"))


@dataclass(frozen=True, slots=True)
class Unknown:
    """It cannot be told now. Never "gone": a plan waits."""

    reason: str


Observation = Absent | Running | Exited | Unknown
