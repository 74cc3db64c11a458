"""Everything a plan may look at besides its row: one immutable picture of the world at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clary.reconcile.observations import Observation


@dataclass(frozen=True, slots=True)
class Preparation:
    """How far what the next step needs is: the environment of an image, or the answer to a question."""

    status: str  # "absent" | "building" | "ready" | "failed"
    message: str = ""  # the last line of progress, or why it failed and what to do
    answer: Any = None


READY = Preparation("ready")


@dataclass(frozen=True, slots=True)
class Seen:
    now: float  # epoch seconds
    hosts: Mapping[str, Observation] = field(default_factory=dict[str, Observation])
    slots: int = 1  # hosts of jobs that this installation runs at once
    slots_free: int = 0  # of these, those not taken
    preparation: Preparation = READY
