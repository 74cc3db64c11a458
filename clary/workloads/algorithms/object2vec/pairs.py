"""Pairs of token sequences and their labels, as JSON lines hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.first_party.errors import unreadable

FOLDER_DEPTH_MAX = 32
KIND = "application/jsonlines"


@dataclass(frozen=True)
class Side:
    """What one encoder takes: ids below `vocabulary`, and no more than `length` of them."""

    name: str  # "in0"
    vocabulary: int
    length: int

    def tokens(self, found: Any) -> np.ndarray:
        """Checked ids, cut to length; raises ValueError."""
        if not isinstance(found, list) or not found:
            raise ValueError(f"{self.name} must be a list of at least one token id")
        if not all(type(one) is int for one in found):
            raise ValueError(f"{self.name} holds something that is no whole number")
        tokens = np.array(found[: self.length], dtype=np.int64)
        if tokens.min() < 0 or tokens.max() >= self.vocabulary:
            raise ValueError(
                f"{self.name} holds the token id {int(tokens.max() if tokens.min() >= 0 else tokens.min())}, "
                f"which is not between 0 and {self.vocabulary - 1}"
            )
        return tokens


def sides(values: Mapping[str, Any]) -> tuple[Side, Side]:
    """The two inputs; the second is as the first where they share an encoder."""
    first = Side("in0", values["enc0_vocab_size"], values["enc0_max_seq_len"])
    second = Side(
        "in1",
        values.get("enc1_vocab_size") or first.vocabulary,
        values.get("enc1_max_seq_len") or first.length,
    )
    if values["enc1_network"] == "enc0":
        second = Side("in1", first.vocabulary, second.length)
    return first, second


@dataclass(frozen=True)
class Pairs:
    """Sequences of both sides, and a label for each pair."""

    first: Sequence[np.ndarray]
    second: Sequence[np.ndarray]
    labels: np.ndarray

    @property
    def count(self) -> int:
        return len(self.labels)


def read(channel: Channel, both: tuple[Side, Side], classes: int | None) -> Pairs:
    """All pairs of a channel; `classes` is None where labels are any numbers. Raises ClientError."""
    first, second, labels = [], [], []
    for path in channel.files(FOLDER_DEPTH_MAX):
        with path.open("rb") as lines:
            for at, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    document = json.loads(line)
                    first.append(both[0].tokens(document["in0"]))
                    second.append(both[1].tokens(document["in1"]))
                    labels.append(_label(document["label"], classes))
                except (ValueError, KeyError, TypeError) as problem:
                    missing = isinstance(problem, KeyError)
                    cause = f"{problem} is missing" if missing else str(problem)
                    where = f"'{path.name}', line {at}: {cause}"
                    raise unreadable(channel.name, KIND, where) from problem
    kind = np.float32 if classes is None else np.int64
    return Pairs(first, second, np.array(labels, dtype=kind))


def _label(found: Any, classes: int | None) -> float:
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise ValueError(f"the label {found!r} is no number")
    if classes is not None and not (float(found).is_integer() and 0 <= found < classes):
        raise ValueError(
            f"the label {found!r} is not between 0 and num_classes - 1 ({classes - 1})"
        )
    return found


def padded(sequences: Sequence[np.ndarray], padding: int) -> torch.Tensor:
    """One row a sequence, the rest filled with `padding`."""
    longest = max(len(one) for one in sequences)
    rows = np.full((len(sequences), longest), padding, dtype=np.int64)
    for row, one in zip(rows, sequences):  # noqa: B905 - Python 3.8
        row[: len(one)] = one
    return torch.from_numpy(rows)
