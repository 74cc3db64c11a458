"""An adapter component, as the routing snapshot tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    name: str
    uri: str  # of its archive

    @staticmethod
    def parse(entry: dict[str, Any] | None) -> AdapterSettings | None:
        return AdapterSettings(entry["name"], entry["uri"]) if entry else None
