"""What a plan may decide: a closed union that the loop carries out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again after `seconds` at the latest; a wake-up may come sooner, as when `slots` are free."""

    seconds: float
    slots: int = 0


@dataclass(frozen=True, slots=True)
class Prepare:
    """Have made ready what the next step needs: the environment of an image, the answer to a question.

    Asking again changes nothing.
    """


@dataclass(frozen=True, slots=True)
class Launch:
    """Start hosts by key; the intent is written first, and doing it again changes nothing."""

    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop hosts, with the grace that their specs give; doing it again changes nothing."""

    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove what ended hosts left on this machine, and strike them from the row."""

    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Become:
    """Write a status (empty keeps it), members of the document, and members of the plan's memory."""

    status: str = ""
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    state: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Call:
    """Call an operation of the API in process, as Clary; it must be idempotent by its own names."""

    operation: str
    request: dict[str, Any]
    service: str = "sagemaker"


@dataclass(frozen=True, slots=True)
class Vanish:
    """Remove the row and everything its hosts left."""


Decision = Wait | Prepare | Launch | Halt | Forget | Become | Call | Vanish
