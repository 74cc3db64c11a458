"""CSV of numbers with a label first, as float32 blocks in bounded memory: (first columns, others).

A missing value is NaN. What polars does not take for a rectangle of numbers Arrow reads again: it
names the row, and forgives blanks around a number.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from clary.workloads.algorithms import csv_numbers
from clary.workloads.algorithms.csv_numbers import Form
from clary.workloads.algorithms.errors import UserError

if TYPE_CHECKING:
    import pyarrow

    Block = tuple[np.ndarray, np.ndarray]

DELIMITERS = ",\t;| "
NULLS = ("", "nan", "NaN", "NAN", "NA", "N/A", "null", "NULL", "None", "-nan")
_SNIPPET_LENGTH = 50
_COLUMNS = re.compile(r"Expected \d+ columns, got (\d+)")
_ROW = re.compile(r"Row #(\d+)")


def blocks(stream: BinaryIO, name: str, heads: int, threads: int) -> Iterator[Block]:
    """(heads, features) of some thousands of rows at a time: (heads, rows) and (rows, features)."""
    form: Form | None = None

    def form_of(piece: bytes) -> Form:
        nonlocal form
        form = _form(piece, name, heads)
        return form

    def carefully(piece: bytes, lines_before: int) -> np.ndarray:
        assert form is not None
        return _read_carefully(piece, name, form, lines_before)

    try:
        for rows in csv_numbers.rows(csv_numbers.pieces(stream), form_of, carefully, threads):
            yield _cut(rows, heads)
    except csv_numbers.EndlessLine:
        raise UserError(f"The file '{name}' has a line without an end.") from None


def _cut(rows: np.ndarray, heads: int) -> Block:
    # A view of the few columns would keep all of the piece in memory.
    return rows[:, :heads].T.copy(), rows[:, heads:]


def _form(piece: bytes, name: str, heads: int) -> Form:
    """What the first line says of all; it must be all numbers. Raises UserError."""
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
    return Form(len(words), mark, NULLS)


def not_of_format(line: str, name: str, kind: str) -> str:
    return (
        f"First line '{line[:_SNIPPET_LENGTH]}...' of file '{name}' is not '{kind}' format. "
        f"Please ensure the file is in '{kind}' format."
    )


def _read_carefully(piece: bytes, name: str, form: Form, lines_before: int) -> np.ndarray:
    import pyarrow
    from pyarrow import csv as arrow_csv

    # Arrow finds no columns in a first line that is blank, or has no end.
    body = piece.lstrip(b"\r\n")
    lines_before += piece[: len(piece) - len(body)].count(b"\n")
    if not body.strip():
        return np.empty((0, form.width), np.float32)
    if not body.endswith(b"\n"):
        body += b"\n"
    try:
        table = arrow_csv.read_csv(
            pyarrow.BufferReader(body),
            read_options=arrow_csv.ReadOptions(
                autogenerate_column_names=True, block_size=len(body) + 1, use_threads=False
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=form.mark),
            convert_options=arrow_csv.ConvertOptions(
                column_types={f"f{at}": pyarrow.float32() for at in range(form.width)},
                null_values=list(NULLS),
            ),
        )
        if table.num_columns != form.width:
            raise pyarrow.ArrowInvalid(
                f"{table.num_columns} columns from line {lines_before + 1} on, where the first "
                f"line has {form.width}"
            )
        return _matrix(table.columns)
    except (pyarrow.ArrowInvalid, UnicodeDecodeError) as problem:
        text = _ROW.sub(lambda found: f"Row #{int(found[1]) + lines_before}", str(problem))
        message = f"Failed to load csv data with exception:\n{name}: {text}"
        found = _COLUMNS.search(text)
        if name == csv_numbers.PIPE and found:
            message += csv_numbers.joins_lines(int(found[1]), form.width)
        raise UserError(message) from problem


def split(columns: list[pyarrow.ChunkedArray], heads: int) -> Block:
    """Columns of Arrow as two float32 matrices, (heads, rows) and (rows, features)."""
    return _cut(_matrix(columns), heads)


def _matrix(columns: list[pyarrow.ChunkedArray]) -> np.ndarray:
    matrix = np.empty((len(columns[0]), len(columns)), dtype=np.float32, order="F")
    for at, column in enumerate(columns):
        matrix[:, at] = _numbers(column)
    return matrix


def _numbers(column: pyarrow.ChunkedArray) -> np.ndarray:
    import pyarrow

    try:
        if not pyarrow.types.is_float32(column.type):
            column = column.cast(pyarrow.float32(), safe=False)
        return column.to_numpy()
    except (pyarrow.ArrowException, TypeError) as problem:
        raise UserError(f"A column of the data is not numeric: {problem}") from problem
