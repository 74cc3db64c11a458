"""The examples of a channel: a float32 matrix, dense or CSR, and the labels beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from scipy.sparse import csr_matrix, vstack

from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.first_party import csv_blocks, recordio_blocks
from clary.workloads.algorithms.first_party.errors import ClientError, unreadable
from clary.workloads.algorithms.growing_matrix import GrowingMatrix

FOLDER_DEPTH_MAX = 32
CSV, RECORDIO = csv_blocks.CONTENT_TYPE, recordio_blocks.CONTENT_TYPE
SHORT = {"csv": CSV, "recordio-protobuf": RECORDIO, "": RECORDIO}
# Beyond this many cells, sparse data stay sparse where an algorithm could take either.
DENSE_CELLS_MAX = 50_000_000


@dataclass(frozen=True)
class Examples:
    """What one host has of a channel; `labels` is None where the data has none."""

    features: Any
    labels: np.ndarray | None

    @property
    def count(self) -> int:
        return self.features.shape[0]

    @property
    def width(self) -> int:
        return self.features.shape[1]

    @property
    def is_sparse(self) -> bool:
        return not isinstance(self.features, np.ndarray)


@dataclass(frozen=True)
class Wanted:
    """What an algorithm expects of its channels."""

    labels: bool  # whether every example needs one
    feature_dim: int | None = None  # None: as many as there are
    content_types: tuple[str, ...] = (RECORDIO, CSV)


def read(channel: Channel, wanted: Wanted, *, dense: bool = False) -> Examples | None:
    """All examples of a channel; None if it is empty. Raises ClientError."""
    matrix: GrowingMatrix | None = None
    sparse, labels, width = [], [], wanted.feature_dim or 0
    for part in blocks(channel, wanted):
        width = max(width, part.width)
        if part.is_sparse and not dense:
            sparse.append(part.features)
        else:
            rows = part.features
            if part.is_sparse:
                rows = _spread(part.features, channel.name, width)
            matrix = matrix or GrowingMatrix.like(rows, _size(channel))
            if rows.shape[1] != matrix.width:
                raise ClientError("The records of a channel differ in their number of features.")
            matrix.extend(rows)
        if part.labels is not None:
            labels.append(part.labels)
    has_rows = matrix is not None and matrix.count > 0
    if not has_rows and not sparse:
        return None
    if has_rows and sparse:
        raise ClientError(f"Channel '{channel.name}' mixes dense and sparse records.")
    features = matrix.whole() if matrix and has_rows else _stacked(sparse, width)
    return Examples(features, np.concatenate(labels) if labels else None)


def blocks(channel: Channel, wanted: Wanted) -> Iterator[Examples]:
    """The examples some thousands at a time, for those that need not see them together."""
    kind = _kind(channel)
    if kind not in wanted.content_types:
        raise ClientError(
            f"No iterator has been registered for ContentType ('{channel.content_type}', '1.0'). "
            f"Channel '{channel.name}' takes {', '.join(wanted.content_types)}."
        )
    width: int | None = None
    for name, stream in _streams(channel):
        found = (
            _csv(stream, name, channel, wanted)
            if kind == CSV
            else _recordio(stream, name, channel, wanted)
        )
        for part in found:
            if not part.is_sparse:
                if width is not None and part.width != width:
                    cause = f"'{name}' has {part.width} features, earlier files have {width}"
                    raise unreadable(channel.name, kind, cause)
                width = part.width
            yield part


def _kind(channel: Channel) -> str:
    return SHORT.get(channel.content_type, channel.content_type)


def _streams(channel: Channel) -> Iterator[tuple[str, BinaryIO]]:
    with ExitStack() as stack:
        if channel.is_pipe:
            path = channel.path.parent / f"{channel.path.name}_0"
            yield "the pipe", stack.enter_context(path.open("rb"))
            return
        try:
            paths = channel.files(FOLDER_DEPTH_MAX)
        except UserError as problem:
            raise ClientError(str(problem)) from problem
        for path in paths:
            with path.open("rb", buffering=0) as stream:
                yield _shown(path, channel), stream


def _shown(path: Path, channel: Channel) -> str:
    return path.name if path == channel.path else str(path.relative_to(channel.path))


def _size(channel: Channel) -> int:
    if channel.is_pipe:
        return 0
    return sum(path.stat().st_size for path in channel.files(FOLDER_DEPTH_MAX))


def _csv(stream: BinaryIO, name: str, channel: Channel, wanted: Wanted) -> Iterator[Examples]:
    label_size: int | None = None
    for rows in csv_blocks.blocks(stream, name, channel.name):
        if label_size is None:
            label_size = _label_size(channel, wanted, rows.shape[1])
        features = rows[:, label_size:]
        _check_width(features.shape[1], channel.name, wanted)
        labels = None
        if label_size:
            labels = rows[:, 0].copy() if label_size == 1 else rows[:, :label_size].copy()
        yield Examples(features, labels)


def _label_size(channel: Channel, wanted: Wanted, columns: int) -> int:
    """The stated `label_size`; 1 if there is none, as in SageMaker.

    Where 1 would leave too few features, but none just as many as the job says, it is 0: on
    SageMaker that job fails, so no working job changes its meaning.
    """
    text = channel.parameters.get("label_size")
    if text is None:
        exact = columns == wanted.feature_dim
        return 0 if exact and not wanted.labels else 1
    if not text.isdigit() or int(text) >= columns:
        cause = f"label_size={text} leaves no features in rows of {columns} columns"
        raise unreadable(channel.name, CSV, cause)
    if wanted.labels and text != "1":
        cause = f"label_size={text}, but this algorithm needs exactly one label in each row"
        raise unreadable(channel.name, CSV, cause)
    return int(text)


def _recordio(stream: BinaryIO, name: str, channel: Channel, wanted: Wanted) -> Iterator[Examples]:
    for features, labels in recordio_blocks.blocks(stream, name, channel.name):
        if wanted.labels and (labels is None or labels.ndim != 1):
            cause = f"'{name}': each record needs one label"
            raise unreadable(channel.name, RECORDIO, cause)
        # Records of sparse data may be narrower than the whole.
        narrow = features.shape[1] < (wanted.feature_dim or 0)
        if narrow and not isinstance(features, np.ndarray):
            features.resize((features.shape[0], wanted.feature_dim))
        _check_width(features.shape[1], channel.name, wanted)
        yield Examples(features, labels)


def _check_width(width: int, channel: str, wanted: Wanted) -> None:
    if wanted.feature_dim is not None and width != wanted.feature_dim:
        raise ClientError(
            f"The feature dimension of the data in channel '{channel}' ({width}) does not match "
            f"the hyperparameter feature_dim ({wanted.feature_dim})."
        )


def _spread(features: csr_matrix, channel: str, width: int) -> np.ndarray:
    """Sparse rows written out, for an algorithm that only takes dense ones."""
    if features.shape[0] * width > DENSE_CELLS_MAX * 4:
        raise ClientError(
            f"Channel '{channel}' is sparse with {width} features, which this algorithm would "
            "have to write out. Reduce the number of features."
        )
    return features.toarray()


def _stacked(parts: list[csr_matrix], width: int) -> csr_matrix:
    for part in parts:
        part.resize((part.shape[0], width))
    return csr_matrix(parts[0] if len(parts) == 1 else vstack(parts, format="csr"))
