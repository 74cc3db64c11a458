"""Model files: named arrays and a JSON document in one NumPy archive, written whole or not at all.

SageMaker names the file after the first host, `model_algo-1`; NumPy reads it as an `.npz`.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clary.workloads.serving.handlers import Rejected

NAME = "model_algo-1"
_DOCUMENT = "document"


@dataclass(frozen=True)
class Artifact:
    """What a model file holds."""

    arrays: Mapping[str, np.ndarray]
    document: Mapping[str, Any]


def save(folder: Path, algorithm: str, arrays: Mapping[str, np.ndarray], **document: Any) -> Path:
    """Write the artifact of an algorithm into the model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"algorithm": algorithm, "version": 1, **document})
    content = {**arrays, _DOCUMENT: np.frombuffer(text.encode(), dtype=np.uint8)}
    staging = folder / f".{NAME}.{os.getpid()}"
    with staging.open("wb") as file:
        np.savez(file, **content)
    staging.replace(folder / NAME)
    return folder / NAME


def load(folder: Path, algorithm: str) -> Artifact:
    """Read it back; refuses with 500 where it is not a model of that algorithm."""
    try:
        # A pickle runs code while it loads: a model file never may.
        with np.load(folder / NAME, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        document = json.loads(arrays.pop(_DOCUMENT).tobytes())
        if document["algorithm"] != algorithm:
            raise ValueError(f"{NAME} is a model of {document['algorithm']}, not of {algorithm}")
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as problem:
        raise Rejected(500, f"Unable to load model: {problem}") from problem
    return Artifact(arrays, document)
