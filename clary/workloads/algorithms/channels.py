"""Channels: the inputs that an algorithm declares, and those that a job has under /opt/ml/input."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clary.workloads.algorithms.errors import UserError

FILES_MAX = 1_000_000


@dataclass(frozen=True)
class ChannelDeclaration:
    """A channel that an algorithm reads."""

    name: str
    required: bool = False
    content_types: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("File", "FastFile", "Pipe")


@dataclass(frozen=True)
class Channel:
    """A channel that a job has."""

    name: str
    path: Path  # a folder; in Pipe mode the name of the pipes without `_<epoch>`
    content_type: str = ""  # lower case, without parameters; empty if the job says none
    parameters: Mapping[str, str] = field(default_factory=dict)
    declared_type: str = ""  # the content type as the job words it
    mode: str = "File"
    sharded: bool = False

    @property
    def is_pipe(self) -> bool:
        return self.mode == "Pipe"

    def files(self, depth_max: int) -> list[Path]:
        """The data files, sorted by path; those that begin with `.` or `_` are not data."""
        if self.path.is_file():
            return [self.path]
        return sorted(_data_files(self.path, depth_max))

    def pipe_bytes(self) -> bytes:
        """All of the first epoch."""
        with (self.path.parent / f"{self.path.name}_0").open("rb") as pipe:
            return pipe.read()


def validate(
    declared: tuple[ChannelDeclaration, ...], configuration: Mapping[str, Any], data: Path
) -> dict[str, Channel]:
    """The channels of inputdataconfig.json; raise UserError if one is missing or unknown."""
    known = {one.name: one for one in declared}
    for one in declared:
        if one.required and one.name not in configuration:
            raise UserError(f"Missing required channel: {one.name}")
    found = {}
    for name, described in configuration.items():
        if name not in known:
            raise UserError(f"Extraneous channel found: {name}")
        channel = _channel(name, described or {}, data)
        if channel.mode not in known[name].modes:
            raise UserError(
                f"Channel configuration for '{name}' channel is not supported: the mode "
                f"{channel.mode} is not one of {', '.join(known[name].modes)}."
            )
        found[name] = channel
    return found


def _channel(name: str, described: Mapping[str, Any], data: Path) -> Channel:
    declared_type = str(described.get("ContentType") or "")
    content_type, parameters = parse_content_type(declared_type)
    return Channel(
        name=name,
        path=data / name,
        content_type=content_type,
        parameters=parameters,
        declared_type=declared_type,
        mode=str(described.get("TrainingInputMode") or "File"),
        sharded=described.get("S3DistributionType") == "ShardedByS3Key",
    )


def parse_content_type(text: str) -> tuple[str, dict[str, str]]:
    """`text/csv; label_size=1` -> ("text/csv", {"label_size": "1"}), in lower case."""
    kind, *rest = text.lower().split(";")
    parameters = {}
    for part in rest:
        name, _, value = part.partition("=")
        if name.strip():
            parameters[name.strip()] = re.sub(r"^[\"']|[\"']$", "", value.strip())
    return kind.strip(), parameters


def _data_files(folder: Path, depth_left: int) -> Iterator[Path]:
    """Walk without following links out of the folder; a folder that is too deep is an error."""
    if not folder.is_dir():
        return
    count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            count += 1
            if count > FILES_MAX:
                raise UserError(f"The folder {folder} has more than {FILES_MAX} files.")
            if entry.name.startswith((".", "_")):
                continue
            if entry.is_dir():
                if depth_left <= 1:
                    raise UserError(
                        f"Folder depth exceed the limit: {entry.path} is too deep in its channel."
                    )
                yield from _data_files(Path(entry.path), depth_left - 1)
            elif entry.is_file():
                yield Path(entry.path)
