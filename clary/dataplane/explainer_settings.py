"""How the answers of an endpoint are explained, as the routing snapshot says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ExplainerSettings:
    config: dict[str, Any]  # ClarifyExplainerConfig
    baseline: str  # records of the SHAP baseline, in its MimeType

    @staticmethod
    def parse(entry: dict[str, Any] | None) -> ExplainerSettings | None:
        return ExplainerSettings(entry["config"], entry["baseline"]) if entry else None
