"""CSV of numbers as float32 blocks, in bounded memory: pieces of whole lines, some read ahead.

    file ──▶ pieces of whole lines ──▶ Arrow, a piece a thread ──▶ (first columns, the others)

A missing value is NaN.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from clary.workloads.algorithms.errors import UserError

if TYPE_CHECKING:
    import pyarrow

    Block = tuple[np.ndarray, np.ndarray]

PIECE_BYTES = 4 << 20
LINE_BYTES_MAX = 256 << 20
DELIMITERS = ",\t;| "
NULLS = ["", "nan", "NaN", "NAN", "NA", "N/A", "null", "NULL", "None", "-nan"]
_SNIPPET_LENGTH = 50
_ROW = re.compile(r"Row #(\d+)")


@dataclass(frozen=True)
class Layout:
    """What the first line of a file says of all of them; `heads` is how many columns come first."""

    name: str
    mark: str
    width: int
    heads: int


def blocks(stream: BinaryIO, name: str, heads: int, threads: int) -> Iterator[Block]:
    """(heads, features) of some thousands of rows at a time: (heads, rows) and (rows, features)."""
    layout: Layout | None = None
    lines = 0
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Block]] = deque()
        for piece in pieces(stream, name):
            layout = layout or layout_of(piece, name, heads)
            ahead.append(pool.submit(_read, piece, layout, lines))
            lines += piece.count(b"\n")
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def pieces(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """The bytes of a stream, cut after line ends."""
    rest = b""
    while data := stream.read(PIECE_BYTES):
        cut = data.rfind(b"\n") + 1
        if not cut:
            rest += data
            if len(rest) > LINE_BYTES_MAX:
                raise UserError(f"The file '{name}' has a line without an end.")
            continue
        yield rest + data[:cut] if rest else data[:cut]
        rest = data[cut:]
    if rest.strip():
        yield rest


def layout_of(piece: bytes, name: str, heads: int) -> Layout:
    """Read the first line, which must be all numbers; raise UserError."""
    lines = piece.lstrip(b"\r\n").split(b"\n", 1)
    line = lines[0].decode("utf-8", "replace").strip("\r\n")
    mark = next((one for one in DELIMITERS if one in line), ",")
    words = next(csv.reader([line], delimiter=mark), [])
    for word in words:
        if word.strip() in NULLS:
            continue
        try:
            float(word)
        except ValueError:
            raise UserError(not_of_format(line, name, "CSV")) from None
    if len(words) <= heads:
        raise UserError(
            f"The data has {len(words)} columns, which leaves no feature beside the label."
        )
    return Layout(name, mark, len(words), heads)


def not_of_format(line: str, name: str, kind: str) -> str:
    return (
        f"First line '{line[:_SNIPPET_LENGTH]}...' of file '{name}' is not '{kind}' format. "
        f"Please ensure the file is in '{kind}' format."
    )


def _read(piece: bytes, layout: Layout, lines_before: int) -> Block:
    import pyarrow
    from pyarrow import csv as arrow_csv

    # Arrow finds no columns in a first line that is blank, or has no end.
    body = piece.lstrip(b"\r\n")
    lines_before += piece[: len(piece) - len(body)].count(b"\n")
    if not body.strip():
        shape = (0, layout.width - layout.heads)
        return np.empty((layout.heads, 0), np.float32), np.empty(shape, np.float32)
    if not body.endswith(b"\n"):
        body += b"\n"
    try:
        table = arrow_csv.read_csv(
            pyarrow.BufferReader(body),
            read_options=arrow_csv.ReadOptions(
                autogenerate_column_names=True, block_size=len(body) + 1, use_threads=False
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=layout.mark),
            convert_options=arrow_csv.ConvertOptions(
                column_types={f"f{at}": pyarrow.float32() for at in range(layout.width)},
                null_values=NULLS,
            ),
        )
        if table.num_columns != layout.width:
            raise pyarrow.ArrowInvalid(
                f"{table.num_columns} columns from line {lines_before + 1} on, where the first "
                f"line has {layout.width}"
            )
        return split(table.columns, layout.heads)
    except (pyarrow.ArrowInvalid, UnicodeDecodeError) as problem:
        text = _ROW.sub(lambda found: f"Row #{int(found[1]) + lines_before}", str(problem))
        message = f"Failed to load csv data with exception:\n{layout.name}: {text}"
        raise UserError(message) from problem


def split(columns: list[pyarrow.ChunkedArray], heads: int) -> Block:
    """Columns of Arrow as two float32 matrices, (heads, rows) and (rows, features)."""
    count = len(columns[0])
    first = np.empty((heads, count), dtype=np.float32)
    others = np.empty((count, len(columns) - heads), dtype=np.float32)
    for at, column in enumerate(columns):
        if at < heads:
            first[at] = _numbers(column)
        else:
            others[:, at - heads] = _numbers(column)
    return first, others


def _numbers(column: pyarrow.ChunkedArray) -> np.ndarray:
    import pyarrow

    try:
        if not pyarrow.types.is_float32(column.type):
            column = column.cast(pyarrow.float32(), safe=False)
        return column.to_numpy()
    except (pyarrow.ArrowException, TypeError) as problem:
        raise UserError(f"A column of the data is not numeric: {problem}") from problem
