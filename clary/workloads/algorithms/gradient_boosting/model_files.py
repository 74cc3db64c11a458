"""The model and its checkpoints as files."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import xgboost

MODEL = "xgboost-model"
CHECKPOINT = "xgboost-checkpoint"
CHECKPOINTS_KEPT = 5
_NUMBERED = re.compile(rf"{CHECKPOINT}\.(\d+)")
_PICKLE_START = b"\x80"


def save(booster: xgboost.Booster, path: Path) -> None:
    """Write the model in the library's own format, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name begins with a dot and has no extension, from which the library takes the format.
    staging = path.parent / f".{path.name.replace('.', '-')}-writing"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        booster.save_model(str(staging))
    staging.replace(path)


def load(path: Path) -> xgboost.Booster:
    """Read a model file: the library's formats, or a pickle; raise ValueError."""
    content = path.read_bytes()
    if content.startswith(_PICKLE_START):
        return _from_pickle(path, content)
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(content))
    except xgboost.core.XGBoostError as problem:
        raise ValueError(f"Model at {path} cannot be loaded:\n{problem}") from problem
    return booster


def _from_pickle(path: Path, content: bytes) -> xgboost.Booster:
    """A pickled Booster or scikit-learn wrapper; also of releases whose pickles no longer open."""
    first: Exception | None = None
    found: Any
    for unpickle in (pickle.loads, _raw_booster):
        try:
            found = unpickle(content)
        except Exception as problem:  # noqa: BLE001 - a pickle may raise anything at all
            first = first or problem
            continue
        if hasattr(found, "get_booster"):
            found = found.get_booster()
        if isinstance(found, xgboost.Booster):
            return found
    raise ValueError(f"Model at {path} cannot be loaded:\n{first or 'it holds no Booster'}")


class _Shell:
    """Takes the state of an object whose class cannot be restored any more."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _OldPickle(pickle.Unpickler):
    """Reads a Booster's pickle without handing its state to the Booster of this release."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("xgboost") and name == "Booster":
            return _Shell
        return super().find_class(module, name)


def _raw_booster(content: bytes) -> xgboost.Booster | None:
    import io

    found = _OldPickle(io.BytesIO(content)).load()
    state = getattr(found, "state", None)
    raw = state.get("handle") if isinstance(state, dict) else None
    if raw is None:
        return None
    booster = xgboost.Booster()
    booster.load_model(bytearray(raw))
    return booster


def checkpoint(folder: Path, iteration: int) -> Path:
    return folder / f"{CHECKPOINT}.{iteration}"


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints of a folder, the oldest first."""
    if not folder.is_dir():
        return []
    found = []
    for path in folder.iterdir():
        match = _NUMBERED.fullmatch(path.name)
        if match:
            found.append((int(match[1]), path))
    return sorted(found)


def latest(folder: Path) -> tuple[xgboost.Booster | None, int]:
    """The newest checkpoint that can be read, and the iteration to go on with."""
    for iteration, path in reversed(checkpoints(folder)):
        try:
            return load(path), iteration + 1
        except ValueError:
            continue  # cut short when its writer was stopped; the one before it is whole
    return None, 0
