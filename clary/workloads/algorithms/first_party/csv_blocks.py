"""CSV as float32 blocks: whole lines, piece by piece, so that no file has to fit into memory.

    stream ──▶ pieces of whole lines ──▶ polars, some pieces ahead in threads ──▶ blocks

polars reads every number, with all processors. It forgives what an algorithm must not: a row that
is too short, a field that is empty. Those come out as NaN, and only then the piece is read once
more, slowly, to name the line and the column.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
import polars

from clary.workloads.algorithms.first_party.errors import unreadable

PIECE_BYTES = 8 << 20
AHEAD = 2  # pieces that are read while the one before them is used
LINE_BYTES_MAX = 256 << 20
CONTENT_TYPE = "text/csv"
_SHOWN_CHARACTERS = 40


def blocks(stream: BinaryIO, name: str, channel: str) -> Iterator[np.ndarray]:
    """The rows of one file, some thousands at a time; raise ClientError where one is wrong.

    All blocks have as many columns as the first line.
    """
    with ThreadPoolExecutor(AHEAD) as pool:
        width, lines = 0, 0
        ahead: deque[Future[np.ndarray]] = deque()
        for piece in pieces(stream, name, channel):
            if not width:
                width = _first_line(piece).count(b",") + 1
            ahead.append(pool.submit(_read, piece, width, name, channel, lines))
            lines += piece.count(b"\n")
            if len(ahead) > AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def pieces(stream: BinaryIO, name: str, channel: str) -> Iterator[bytes]:
    """The bytes of a stream, cut after line ends."""
    rest = b""
    while data := stream.read(PIECE_BYTES):
        cut = data.rfind(b"\n") + 1
        if not cut:
            rest += data
            if len(rest) > LINE_BYTES_MAX:
                raise unreadable(channel, CONTENT_TYPE, f"'{name}' has a line without an end")
            continue
        yield rest + data[:cut] if rest else data[:cut]
        rest = data[cut:]
    if rest.strip():
        yield rest


def _first_line(piece: bytes) -> bytes:
    start = len(piece) - len(piece.lstrip(b"\r\n"))
    end = piece.find(b"\n", start)
    return piece[start : end if end >= 0 else None]


def _read(piece: bytes, width: int, name: str, channel: str, lines_before: int) -> np.ndarray:
    try:
        frame = polars.read_csv(
            piece,
            has_header=False,
            schema={f"column_{at}": polars.Float32 for at in range(width)},
        )
    except polars.exceptions.PolarsError:
        return _read_carefully(piece, width, name, channel, lines_before)
    rows = frame.rechunk().to_numpy()
    # One pass over the sums finds what is not finite; a sum may overflow where no number does.
    if not np.isfinite(rows.sum(axis=0, dtype=np.float64)).all():
        return _read_carefully(piece, width, name, channel, lines_before)
    return rows


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
