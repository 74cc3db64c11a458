"""`model_info.json`: what serving needs to know of a model beside the library's own file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clary.workloads.serving.handlers import Rejected

NAME = "model_info.json"


def save(folder: Path, document: Mapping[str, Any]) -> None:
    """Write it, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    staging = folder / f".{NAME}.{os.getpid()}"
    staging.write_text(json.dumps(document), encoding="utf-8")
    staging.replace(folder / NAME)


def load(folder: Path, algorithm: str) -> dict[str, Any]:
    """Read it; refuses with 500 where it is not of a model of that algorithm."""
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if found["algorithm"] != algorithm:
            raise ValueError(f"it is a model of {found['algorithm']}, not of {algorithm}")
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise Rejected(500, f"Unable to load model: {NAME}: {problem}") from problem
    return found
