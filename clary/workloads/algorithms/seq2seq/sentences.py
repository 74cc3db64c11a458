"""Sentences as numbers: vocabularies, the records that hold pairs of sentences, and batches of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.first_party.declaration import RECORDIO
from clary.workloads.algorithms.first_party.errors import ClientError, unreadable
from clary.workloads.formats import recordio_protobuf

PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<s>", "</s>"
SOURCE_VOCABULARY, TARGET_VOCABULARY = "vocab.src.json", "vocab.trg.json"
FOLDER_DEPTH_MAX = 32
WORDS_MAX = 10_000_000


@dataclass(frozen=True)
class Vocabulary:
    """Words and their ids; four of them have a meaning of their own."""

    ids: Mapping[str, int]
    size: int

    @classmethod
    def parse(cls, document: Any) -> Vocabulary:
        """Raises ValueError."""
        if not isinstance(document, dict) or not all(
            type(one) is int and 0 <= one < WORDS_MAX for one in document.values()
        ):
            raise ValueError("a vocabulary is an object of words and their ids")
        missing = [word for word in (PAD, UNKNOWN, START, END) if word not in document]
        if missing:
            raise ValueError(f"the vocabulary has no {', '.join(missing)}")
        if document[PAD] != 0:
            raise ValueError(f"the id of {PAD} must be 0")
        if len(set(document.values())) < len(document):
            raise ValueError("two words have the same id")
        return cls(document, max(document.values()) + 1)

    @property
    def start(self) -> int:
        return self.ids[START]

    @property
    def end(self) -> int:
        return self.ids[END]

    def encode(self, text: str) -> np.ndarray:
        unknown = self.ids[UNKNOWN]
        return np.array([self.ids.get(word, unknown) for word in text.split()], dtype=np.int64)

    def words(self) -> dict[int, str]:
        return {at: word for word, at in self.ids.items()}

    def checked(self, found: np.ndarray, name: str) -> np.ndarray:
        """Ids without the marks of start and end; raises ValueError."""
        ids = found.astype(np.int64)
        if ids.size and (ids.min() < 0 or ids.max() >= self.size):
            wrong = int(ids.max() if ids.max() >= self.size else ids.min())
            raise ValueError(
                f"{name} holds the token id {wrong}, which is not between 0 and {self.size - 1}"
            )
        return ids[(ids != self.start) & (ids != self.end) & (ids != 0)]


def read_vocabularies(channel: Channel) -> tuple[Vocabulary, Vocabulary]:
    """Those of the sources and of the targets. Raises ClientError."""
    found = []
    for name in (SOURCE_VOCABULARY, TARGET_VOCABULARY):
        path = channel.path / name
        if not path.is_file():
            raise ClientError(f"Channel '{channel.name}' has no file {name}.")
        try:
            found.append(Vocabulary.parse(json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, RecursionError) as problem:
            raise ClientError(f"'{name}' of channel '{channel.name}': {problem}") from problem
    return found[0], found[1]


@dataclass(frozen=True)
class Pairs:
    """Sources and their targets."""

    sources: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]

    @property
    def count(self) -> int:
        return len(self.sources)

    def first(self, count: int) -> Pairs:
        return Pairs(self.sources[:count], self.targets[:count])


def read_pairs(
    channel: Channel, source: Vocabulary, target: Vocabulary, lengths: tuple[int, int]
) -> Pairs:
    """All pairs of a channel, cut to length. Raises ClientError."""
    sources, targets = [], []
    for path in channel.files(FOLDER_DEPTH_MAX):
        for at, record in _records(path, channel):
            try:
                for name in ("source", "target"):
                    if name not in record.features:
                        raise ValueError(f"the record has no feature '{name}'")
                one = source.checked(record.features["source"].values, "source")[: lengths[0]]
                other = target.checked(record.features["target"].values, "target")[: lengths[1]]
                if not one.size or not other.size:
                    raise ValueError("source or target has no words")
            except ValueError as problem:
                raise _wrong(channel, f"'{path.name}', record {at}: {problem}") from problem
            sources.append(one)
            targets.append(other)
    return Pairs(sources, targets)


def _records(path: Path, channel: Channel) -> Iterator[tuple[int, recordio_protobuf.Record]]:
    at = 0
    try:
        for at, record in enumerate(recordio_protobuf.read_records(path.read_bytes()), 1):
            yield at, record
    except recordio_protobuf.RecordError as problem:
        raise _wrong(channel, f"'{path.name}', after record {at}: {problem}") from problem


def _wrong(channel: Channel, cause: str) -> ClientError:
    return unreadable(channel.name, RECORDIO, cause)


# -- batches --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Padded with 0; `inputs` begin with the mark of the start, `outputs` end with that of the end."""

    sources: torch.Tensor
    inputs: torch.Tensor
    outputs: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(self.sources.to(device), self.inputs.to(device), self.outputs.to(device))


@dataclass(frozen=True)
class Batcher:
    """Makes batches of pairs of about one length; without a width all pairs are in one bucket."""

    size: int
    width: int | None
    target: Vocabulary

    def batches(self, pairs: Pairs, random: np.random.Generator | None) -> Iterator[Batch]:
        """All pairs once, in random order if there is a generator of one."""
        order = np.arange(pairs.count) if random is None else random.permutation(pairs.count)
        buckets: dict[tuple[int, int], list[int]] = {}
        for at in order.tolist():
            buckets.setdefault(self._bucket(pairs, at), []).append(at)
        parts = [
            members[start : start + self.size]
            for members in buckets.values()
            for start in range(0, len(members), self.size)
        ]
        for at in range(len(parts)) if random is None else random.permutation(len(parts)):
            yield self._batch(pairs, parts[at])

    def _bucket(self, pairs: Pairs, at: int) -> tuple[int, int]:
        if self.width is None:
            return 0, 0
        return len(pairs.sources[at]) // self.width, len(pairs.targets[at]) // self.width

    def _batch(self, pairs: Pairs, members: Sequence[int]) -> Batch:
        start, end = [self.target.start], [self.target.end]
        targets = [pairs.targets[at] for at in members]
        return Batch(
            padded([pairs.sources[at] for at in members]),
            padded([np.concatenate([start, one]) for one in targets]),
            padded([np.concatenate([one, end]) for one in targets]),
        )


def padded(sequences: Sequence[np.ndarray]) -> torch.Tensor:
    """One row a sequence, the rest filled with 0."""
    longest = max(len(one) for one in sequences)
    rows = np.zeros((len(sequences), longest), dtype=np.int64)
    for row, one in zip(rows, sequences):  # noqa: B905 - Python 3.8
        row[: len(one)] = one
    return torch.from_numpy(rows)
