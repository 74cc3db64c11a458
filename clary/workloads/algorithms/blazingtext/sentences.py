"""The text of a channel as the one file that fastText reads, one sentence a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.first_party.errors import ClientError

FOLDER_DEPTH_MAX = 32
LABEL = "__label__"


def write(channel: Channel, path: Path, *, labelled: bool) -> int:
    """Write the sentences of all files; how many there are. Raises ClientError.

    A line of an augmented manifest, `{"source": "..", "label": 1}`, becomes `__label__1 ..`.
    """
    count = 0
    with path.open("wb") as target:
        for name, lines in _streams(channel):
            for at, line in enumerate(lines, 1):
                sentence = _from_manifest(line, name, at) if _is_manifest(line) else line.strip()
                if not sentence:
                    continue
                if labelled and not sentence.startswith(LABEL.encode()):
                    raise ClientError(
                        f"Channel '{channel.name}', '{name}', line {at}: a sentence of the "
                        f"supervised mode begins with its labels, as in '{LABEL}1 the words ...'."
                    )
                target.write(sentence + b"\n")
                count += 1
    return count


def _streams(channel: Channel) -> Iterator[tuple[str, BinaryIO]]:
    paths = (
        [channel.path.parent / f"{channel.path.name}_0"]
        if channel.is_pipe
        else channel.files(FOLDER_DEPTH_MAX)
    )
    for path in paths:
        with path.open("rb") as lines:
            yield path.name, lines


def _is_manifest(line: bytes) -> bool:
    return line.startswith(b'{"')


def _from_manifest(line: bytes, name: str, at: int) -> bytes:
    try:
        document = json.loads(line)
        source = document["source"]
        labels = document.get("label", [])
    except (ValueError, KeyError) as problem:
        raise ClientError(
            f"'{name}', line {at} is not a line of an augmented manifest with 'source' and "
            f"'label': {problem!r}"
        ) from problem
    every = labels if isinstance(labels, list) else [labels]
    words = [f"{LABEL}{label}" for label in every]
    return " ".join([*words, *str(source).split()]).encode()
