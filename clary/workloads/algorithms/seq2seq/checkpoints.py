"""Checkpoints of a training: what a job that was interrupted goes on from."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clary.workloads.algorithms.first_party.errors import ClientError

FILE = "checkpoint.pt"


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Replaces the one before, at once or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    staging = folder / f".{FILE}.writing"
    torch.save(dict(state), staging)
    staging.replace(folder / FILE)


def load(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """None where there is none; raise ClientError where it cannot be read."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        found = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as problem:
        raise unfit(folder, problem) from problem
    return found if isinstance(found, dict) else None


def unfit(folder: Path, problem: object) -> ClientError:
    return ClientError(
        f"The checkpoint {folder / FILE} cannot be continued: {problem}. Empty the S3 folder of "
        "CheckpointConfig to start anew."
    )
