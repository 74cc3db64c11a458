"""EFS and FSx as channels: folders of this machine that the operator gave a file system's id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clary.engine.call import Call
from clary.model.errors import ValidationException
from clary.settings import Settings


def directory(source: Mapping[str, Any], settings: Settings) -> Path:
    """The folder that a FileSystemDataSource means; raise ValidationException with the remedy."""
    identity, path = source["FileSystemId"], source["DirectoryPath"]
    root = _roots(settings).get(identity)
    if root is None:
        raise ValidationException(
            f"File system {identity} is not known to this installation. Start Clary with "
            f"CLARY_FILE_SYSTEMS={identity}=/a/folder of this machine (several are joined by "
            "commas), or use an S3DataSource."
        )
    if ".." in path.split("/"):
        raise ValidationException(f"DirectoryPath '{path}' must not hold '..'.")
    found = (root / path.lstrip("/")).resolve()
    if not found.is_relative_to(root.resolve()):
        raise ValidationException(f"DirectoryPath '{path}' leads out of file system {identity}.")
    if not found.is_dir():
        raise ValidationException(
            f"DirectoryPath '{path}' does not exist in file system {identity}, which is {root} on "
            "this machine."
        )
    return found


def _roots(settings: Settings) -> dict[str, Path]:
    pairs = (entry.partition("=") for entry in settings.file_systems.split(",") if "=" in entry)
    return {identity.strip(): Path(path.strip()).expanduser() for identity, _, path in pairs}


def file_systems_are_known(call: Call) -> None:
    for channel in call.input.get("InputDataConfig") or []:
        source = channel["DataSource"].get("FileSystemDataSource")
        if source is not None:
            directory(source, call.parts.settings)


def mounts(channels: Iterable[Mapping[str, Any]], settings: Settings) -> dict[str, list[str]]:
    """The folders that a program must see beside /opt/ml, by what it may do there."""
    found: dict[str, list[str]] = {"read_only": [], "writable": []}
    for channel in channels:
        source = channel["DataSource"].get("FileSystemDataSource")
        if source is not None:
            kind = "writable" if source["FileSystemAccessMode"] == "rw" else "read_only"
            found[kind].append(str(directory(source, settings)))
    return found
