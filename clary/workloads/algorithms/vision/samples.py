"""The samples of a channel: where each image is, and its label; no image is read before its turn.

folder of images + .lst           a path and labels a line
RecordIO (`im2rec`)               IRHeader = flag · label · id · id2, labels if flag > 0, image
a pipe of an augmented manifest   records in turns: image, label, image, label
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.first_party.errors import ClientError, unreadable

FOLDER_DEPTH_MAX = 32
LABELS_MAX = 100_000
CONTENT_TYPE = "application/x-recordio"
IMAGE_TYPES = ("application/x-image", "image/jpeg", "image/png", "image/*")
_MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", _MAGIC)
_IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG")
_HEADER = struct.Struct("<IfQQ")


@dataclass(frozen=True)
class Blob:
    """Bytes in a file; without `parts` it is the whole file."""

    name: str
    path: Path
    parts: tuple[tuple[int, int], ...] = ()

    def read(self) -> bytes:
        if not self.parts:
            return self.path.read_bytes()
        with self.path.open("rb") as file:
            return _MAGIC_BYTES.join(_at(file, start, size) for start, size in self.parts)


@dataclass(frozen=True)
class Sample:
    """An image and what belongs to it: numbers, or bytes that are another image or a document."""

    image: Blob
    label: Any


def is_listed(channel: Channel, *, has_lists: bool) -> bool:
    """Whether a channel holds plain images, and not records; one beside it may list them."""
    named = channel.content_type in IMAGE_TYPES
    return (named or (not channel.content_type and has_lists)) and not channel.is_pipe


def recorded(channel: Channel, spool: Path) -> list[Sample]:
    """The samples of a channel of records; the labels of a manifest are blobs."""
    if channel.content_type not in ("", CONTENT_TYPE, *IMAGE_TYPES):
        raise ClientError(
            f"No iterator has been registered for ContentType ('{channel.content_type}', '1.0'). "
            f"Channel '{channel.name}' takes {CONTENT_TYPE} or {IMAGE_TYPES[0]}."
        )
    found: list[Sample] = []
    for path in _record_files(channel, spool):
        try:
            found += _samples(path)
        except ValueError as problem:
            cause = f"'{path.name}': {problem}"
            raise unreadable(channel.name, channel.content_type, cause) from None
    return found


def _record_files(channel: Channel, spool: Path) -> list[Path]:
    if not channel.is_pipe:
        return [path for path in channel.files(FOLDER_DEPTH_MAX) if path.suffix != ".idx"]
    # Every epoch sees all samples in another order: a pipe is kept until the training ends.
    kept = spool / channel.name
    pipe = channel.path.parent / f"{channel.path.name}_0"
    with pipe.open("rb") as source, kept.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return [kept]


def _samples(path: Path) -> Iterator[Sample]:
    """Raise ValueError where the file is damaged."""
    waiting: Blob | None = None
    with path.open("rb") as file:
        for at, parts in enumerate(_records(file)):
            name = f"{path.name}, record {at}"
            start = _at(file, parts[0][0], min(parts[0][1], 4))
            if waiting is not None:
                yield Sample(waiting, Blob(name, path, parts))
                waiting = None
            elif start.startswith(_IMAGE_STARTS):
                waiting = Blob(name, path, parts)
            else:
                labels, size = _labels(file, parts[0], at)
                first = (parts[0][0] + size, parts[0][1] - size)
                yield Sample(Blob(name, path, (first, *parts[1:])), labels)
    if waiting is not None:
        raise ValueError(f"the last image ({waiting.name}) has no label after it")


def _labels(file: BinaryIO, part: tuple[int, int], at: int) -> tuple[np.ndarray, int]:
    """The labels of a record, and how many bytes lie before its image."""
    if part[1] < _HEADER.size:
        raise ValueError(f"record {at} is too short for its header")
    flag, label, _, _ = _HEADER.unpack(_at(file, part[0], _HEADER.size))
    if not flag:
        return np.array([label], dtype=np.float32), _HEADER.size
    size = _HEADER.size + 4 * flag
    if flag > LABELS_MAX or size > part[1]:
        raise ValueError(f"record {at} says that it has {flag} labels, which do not fit into it")
    return np.frombuffer(_at(file, part[0] + _HEADER.size, 4 * flag), dtype="<f4"), size


def _records(file: BinaryIO) -> Iterator[tuple[tuple[int, int], ...]]:
    """Where the parts of each record lie; raise ValueError where the framing is broken."""
    end = file.seek(0, 2)
    at, parts = 0, []
    while at < end:
        head = _at(file, at, 8)
        if len(head) < 8:
            raise ValueError(f"it ends inside a header at byte {at}")
        magic, word = struct.unpack("<II", head)
        if magic != _MAGIC:
            raise ValueError(f"byte {at} does not start a RecordIO record: no valid magic number")
        part, length = word >> 29, word & 0x1FFFFFFF
        if at + 8 + length > end:
            raise ValueError(f"the record at byte {at} is cut off: {length} bytes were announced")
        parts.append((at + 8, length))
        if part in (0, 3):
            yield tuple(parts)
            parts = []
        at += 8 + length + (-length % 4)
    if parts:
        raise ValueError("it ends inside a split record")


def _at(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def listed(images: Channel, lists: Channel) -> list[Sample]:
    """The samples of .lst files: index, labels and path between tabs, one sample a line."""
    root = images.path.resolve()
    found: list[Sample] = []
    for path in lists.files(FOLDER_DEPTH_MAX):
        for at, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if not line.strip():
                continue
            try:
                found.append(_listed(line, root))
            except ValueError as problem:
                cause = f"'{path.name}', line {at}: {problem}"
                raise unreadable(lists.name, IMAGE_TYPES[0], cause) from None
    return found


def _listed(line: str, root: Path) -> Sample:
    fields = line.rstrip("\r\n").split("\t")
    if len(fields) < 3:
        raise ValueError(
            f"{len(fields)} columns between tabs, where an index, a label and a path belong"
        )
    try:
        labels = np.array([float(field) for field in fields[1:-1]], dtype=np.float32)
    except ValueError:
        raise ValueError(f"a label of {fields[1:-1]} is not a number") from None
    name = fields[-1].strip()
    return Sample(inside(root, name), labels)


def inside(root: Path, name: str) -> Blob:
    """A file that a list names; raise ValueError if it is absent or outside of its channel."""
    path = (root / name).resolve()
    if root not in path.parents:
        raise ValueError(f"the image {name!r} lies outside of its channel")
    if not path.is_file():
        raise ValueError(f"there is no image {name!r} in the channel '{root.name}'")
    return Blob(name, path)
