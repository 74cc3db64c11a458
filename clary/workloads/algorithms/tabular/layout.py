"""Where a job's tables are: JumpStart takes two channels, or one with a folder for each.

training/data.csv (+ validation/data.csv)          two channels, or no validation data at all
training/training/data.csv, training/validation/…  one channel; LightGBM calls the first `train`
…/categorical_index.json                           {"cat_index_list": [3, 5]}, beside the data
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.job import Job
from clary.workloads.algorithms.tabular.declaration import no_training_channel

DATA = ("training", "train", "validation")
CONTENT_TYPES = ("", "csv", "text/csv", "application/x-directory")
INDEX_FILE = "categorical_index.json"
INDEX_BYTES_MAX = 4 << 20
FOLDER_DEPTH_MAX = 16


@dataclass(frozen=True)
class Layout:
    """The files of a job; `categorical` counts features from 0, without the label."""

    training: tuple[Path, ...]
    validation: tuple[Path, ...]
    categorical: tuple[int, ...]
    is_sharded: bool


def find(job: Job) -> Layout:
    """Look for the tables of this host; raise UserError where there are none to train on."""
    channel = job.channels.get("training") or job.channels.get("train")
    if channel is None:
        raise no_training_channel()
    for one in job.channels.values():
        if one.name in DATA and one.content_type not in CONTENT_TYPES:
            raise UserError(
                f"Content type '{one.declared_type}' of channel '{one.name}' is not supported. "
                "Supported content types: text/csv."
            )
    inner = next(
        (channel.path / name for name in ("training", "train") if (channel.path / name).is_dir()),
        None,
    )
    if inner is None:
        training = _tables(_files(channel))
        index = channel.path / INDEX_FILE
        validation = _tables(_files(job.channels.get("validation")))
    else:
        files = _files(channel)
        training = _tables([path for path in files if inner in path.parents])
        index = inner / INDEX_FILE
        held_out = channel.path / "validation"
        validation = _tables([path for path in files if held_out in path.parents])
        validation = validation or _tables(_files(job.channels.get("validation")))
        index = index if index.is_file() else channel.path / INDEX_FILE
    if not training and len(job.hosts) == 1:
        raise UserError(
            f"No training data found in channel '{channel.name}'. It needs a CSV file without a "
            "header, the label in its first column."
        )
    return Layout(tuple(training), tuple(validation), _categorical(index), channel.sharded)


def _files(channel: Channel | None) -> Sequence[Path]:
    return channel.files(FOLDER_DEPTH_MAX) if channel is not None else ()


def _tables(files: Sequence[Path]) -> list[Path]:
    return [path for path in files if path.suffix != ".json" and path.stat().st_size]


def _categorical(path: Path) -> tuple[int, ...]:
    if not path.is_file():
        return ()
    if path.stat().st_size > INDEX_BYTES_MAX:
        raise UserError(f"{INDEX_FILE} is too large.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["cat_index_list"]
        columns = [int(str(one)) for one in found]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as problem:
        raise UserError(
            f'{INDEX_FILE} must be a JSON object such as {{"cat_index_list": [3, 5]}}: {problem}'
        ) from problem
    if any(one < 1 for one in columns):
        raise UserError(
            f"{INDEX_FILE}: the indexes of categorical columns are larger than 0; column 0 is the "
            "label."
        )
    return tuple(sorted({one - 1 for one in columns}))


def check_categorical(categorical: Sequence[int], features: int) -> None:
    """Raise UserError where an index is beyond the data."""
    if categorical and categorical[-1] >= features:
        raise UserError(
            f"{INDEX_FILE} names column {categorical[-1] + 1}, but the data has only {features} "
            "features beside the label."
        )
