"""Tables of numbers alone: each of them becomes one matrix while it is read, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clary.workloads.algorithms import csv_numbers
from clary.workloads.algorithms.csv_numbers import Form
from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.growing_matrix import GrowingMatrix
from clary.workloads.algorithms.pieces import in_threads
from clary.workloads.algorithms.tabular.splits import Fifth

if TYPE_CHECKING:
    Block = tuple[np.ndarray, np.ndarray]

MISSING = ("NA", "N/A", "null", "NULL", "None")  # as pandas has it


class NotPlain(UserError):
    """Somewhere is more than numbers; another reader has to look."""


class Matrix:
    """The labels, float64 or whole numbers, and the features, float32."""

    def __init__(self, bytes_expected: int) -> None:
        self.bytes_expected = bytes_expected
        self._features: GrowingMatrix | None = None
        self._labels: list[np.ndarray] = []

    def add(self, labels: np.ndarray, features: np.ndarray) -> None:
        """Some rows more; raise NotPlain where they are of another width."""
        if self._features is None:
            self._features = GrowingMatrix.like(features, self.bytes_expected)
        if features.shape[1] != self._features.width:
            raise NotPlain
        self._features.extend(features)
        self._labels.append(labels)

    @property
    def count(self) -> int:
        return self._features.count if self._features is not None else 0

    def features(self) -> np.ndarray:
        assert self._features is not None
        return self._features.whole()

    def labels(self) -> np.ndarray:
        labels = np.concatenate(self._labels)
        # Whole numbers are what classes are, as a rule; so pandas says of them, too.
        is_whole = np.isfinite(labels).all() and (labels == np.floor(labels)).all()
        return labels.astype(np.int64) if is_whole else labels


def read(paths: Sequence[Path]) -> Matrix:
    """All rows of the files; raise NotPlain."""
    whole = Matrix(_size(paths))
    for labels, features in _blocks(paths):
        whole.add(labels, features)
    return whole


def read_in_two(paths: Sequence[Path]) -> tuple[Matrix, Matrix]:
    """Four fifths of the rows and the fifth that validates them; raise NotPlain."""
    size, fifth = _size(paths), Fifth()
    parts = Matrix(size * 4 // 5), Matrix(size // 5)
    for labels, features in _blocks(paths):
        mask = fifth.mask(len(labels))
        parts[0].add(labels[~mask], features[~mask])
        parts[1].add(labels[mask], features[mask])
    return parts


def _size(paths: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _blocks(paths: Sequence[Path]) -> Iterator[Block]:
    for path in paths:
        with path.open("rb", buffering=0) as stream:
            try:
                yield from in_threads(_with_form(csv_numbers.pieces(stream)), _block)
            except csv_numbers.EndlessLine:
                raise NotPlain from None


def _with_form(parts: Iterator[bytes]) -> Iterator[tuple[bytes, Form]]:
    """Each piece of a file, whose first line tells how wide all are."""
    form: Form | None = None
    for piece in parts:
        if form is None:
            width = piece.split(b"\n", 1)[0].count(b",") + 1
            form = Form(width, missing=MISSING, is_first_exact=True)
        yield piece, form


def _block(piece: bytes, form: Form) -> Block:
    found = csv_numbers.frame(piece, form)
    if found is None or form.width < 2:
        raise NotPlain
    return found[:, 0].to_numpy(), found[:, 1:].to_numpy()
