"""CSV as float32 blocks: whole lines, piece by piece, so that no file has to fit into memory.

A first-party algorithm takes finite numbers only: a piece where one is missing is read once more,
slowly, to name the line and the column.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from clary.workloads.algorithms import csv_numbers
from clary.workloads.algorithms.csv_numbers import Form
from clary.workloads.algorithms.first_party.errors import unreadable

CONTENT_TYPE = "text/csv"
_SHOWN_CHARACTERS = 40


def blocks(stream: BinaryIO, name: str, channel: str) -> Iterator[np.ndarray]:
    """The rows of one file, some thousands at a time; raise ClientError where one is wrong.

    All blocks have as many columns as the first line.
    """
    width = 0

    def form_of(piece: bytes) -> Form:
        nonlocal width
        width = _first_line(piece).count(b",") + 1
        return Form(width, is_finite=True)

    def carefully(piece: bytes, lines_before: int) -> np.ndarray:
        return _read_carefully(piece, width, name, channel, lines_before)

    return csv_numbers.rows(pieces(stream, name, channel), form_of, carefully)


def pieces(stream: BinaryIO, name: str, channel: str) -> Iterator[bytes]:
    """The bytes of a stream, cut after line ends."""
    try:
        yield from csv_numbers.pieces(stream)
    except csv_numbers.EndlessLine:
        raise unreadable(channel, CONTENT_TYPE, f"'{name}' has a line without an end") from None


def _first_line(piece: bytes) -> bytes:
    start = len(piece) - len(piece.lstrip(b"\r\n"))
    end = piece.find(b"\n", start)
    return piece[start : end if end >= 0 else None]


def _read_carefully(
    piece: bytes, width: int, name: str, channel: str, lines_before: int
) -> np.ndarray:
    """Read line by line; blank lines do not count, and whatever else is wrong is told."""
    rows: list[np.ndarray] = []
    text = io.StringIO(piece.decode("utf-8", "replace"), newline=None)
    for at, line in enumerate(text, lines_before + 1):
        if not line.strip():
            continue
        fields = line.rstrip("\n").split(",")
        where = f"'{name}', line {at}"
        if len(fields) != width:
            cause = f"{where}: {len(fields)} columns, where the first line has {width}"
            if name == csv_numbers.PIPE:
                cause += csv_numbers.joins_lines(len(fields), width)
            raise unreadable(channel, CONTENT_TYPE, cause)
        rows.append(_numbers(fields, where, channel))
    if not rows:
        return np.empty((0, width), dtype=np.float32)
    return np.stack(rows)


def _numbers(fields: list[str], where: str, channel: str) -> np.ndarray:
    found = np.empty(len(fields), dtype=np.float32)
    for at, field in enumerate(fields):
        word = field.strip().strip('"').strip()
        try:
            if not word:
                raise ValueError("a value is missing")
            with np.errstate(over="ignore"):
                found[at] = float(word) if "_" not in word else np.nan
            if not np.isfinite(found[at]):
                raise ValueError(f"{word[:_SHOWN_CHARACTERS]!r} is not a finite number")
        except ValueError as problem:
            text = str(problem)
            if text.startswith("could not convert"):
                text = f"{word[:_SHOWN_CHARACTERS]!r} is not a number"
            cause = f"{where}, column {at + 1}: {text}"
            raise unreadable(channel, CONTENT_TYPE, cause) from None
    return found
