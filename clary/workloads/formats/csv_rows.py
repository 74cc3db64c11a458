"""Numeric CSV without a header, as training channels and inference requests carry it.

One short row is the common request. A body of nothing but digits is close enough to JSON that
orjson reads its numbers in a microsecond; without orjson the interpreter's own `float` takes
seven; numpy's general readers need far longer to start.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import numpy

try:
    from orjson import loads as _loads
except ImportError:  # The environment of an image need not have it.
    _loads = None

PLAIN = b"0123456789.,-+eE\n"
NAN = float("nan")
DELIMITERS = (b",", b"\t", b";", b"|", b" ")


class RowError(ValueError):
    """The text is not a rectangle of numbers; the message names the line and the column."""


def read(data: bytes | bytearray | memoryview | str, delimiter: str | None = ",") -> numpy.ndarray:
    """Return the rows as a float64 matrix; an empty field is NaN; `None` finds the delimiter.

    Blank lines are skipped. Anything else that is not a number raises `RowError`.
    """
    body = data.encode("utf-8") if isinstance(data, str) else bytes(data)
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    body = body.strip(b"\n\x00")
    mark = sniff(body) if delimiter is None else delimiter.encode("utf-8")
    if not body:
        raise RowError("the CSV holds no rows")
    if _loads is not None and mark == b"," and not body.translate(None, PLAIN):
        try:
            return _read_plain(body, _loads)
        except ValueError:
            return _read_carefully(body, mark)
    if b"_" in body or b'"' in body:
        # float() would take "1_000" for a number, and quotes need a real CSV reader.
        return _read_carefully(body, mark)
    try:
        if b"\n" not in body:
            return numpy.array([_split(body, mark)], dtype=numpy.float64)
        return _read_lines(body, mark)
    except ValueError:
        return _read_carefully(body, mark)


def sniff(body: bytes) -> bytes:
    """Return the first usual delimiter that the first line holds; a comma if there is none."""
    line = body.split(b"\n", 1)[0].strip()
    for mark in DELIMITERS:
        if mark in line:
            return mark
    return b","


def write(rows: numpy.ndarray, delimiter: str = ",") -> bytes:
    """Return the matrix as CSV, one line a row; a vector is one value a line."""
    table = numpy.asarray(rows)
    if table.ndim == 0:
        table = table[None]
    if table.ndim == 1:
        return ("\n".join(map(str, table.tolist())) + "\n").encode("utf-8")
    if table.ndim > 2:
        raise RowError(f"CSV holds one or two dimensions, not {table.ndim}")
    lines = [delimiter.join(map(str, row)) for row in table.tolist()]
    return ("\n".join(lines) + "\n").encode("utf-8") if lines else b""


def _read_plain(body: bytes, loads: Callable[[bytes], list]) -> numpy.ndarray:
    if b"\n" not in body:
        return numpy.array([loads(b"[" + body + b"]")], dtype=numpy.float64)
    lines = [line for line in body.split(b"\n") if line]
    _check_width(lines, b",")
    values = loads(b"[" + b",".join(lines) + b"]")
    return numpy.array(values, dtype=numpy.float64).reshape(len(lines), -1)


def _split(body: bytes, mark: bytes) -> list[float]:
    return list(map(float, body.split(mark)))


def _check_width(lines: list[bytes], mark: bytes) -> None:
    separators = lines[0].count(mark)
    if any(line.count(mark) != separators for line in lines):
        raise RowError("ragged")


def _read_lines(body: bytes, mark: bytes) -> numpy.ndarray:
    lines = [line for line in body.split(b"\n") if line]
    _check_width(lines, mark)
    values = _split(mark.join(lines), mark)
    return numpy.array(values, dtype=numpy.float64).reshape(len(lines), -1)


def _read_carefully(body: bytes, mark: bytes) -> numpy.ndarray:
    """Read field by field: empty fields, quotes, and an error that says where."""
    if not body.strip():
        raise RowError("the CSV holds no rows")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as problem:
        line = body.count(b"\n", 0, problem.start) + 1
        raise RowError(f"line {line} of the CSV is not UTF-8 text") from problem
    rows: list[list[float]] = []
    delimiter = mark.decode("utf-8")
    try:
        for number, fields in _lines(text, delimiter):
            if rows and len(fields) != len(rows[0]):
                raise RowError(
                    f"line {number} of the CSV has {len(fields)} columns, "
                    f"where the first row has {len(rows[0])}"
                )
            rows.append([_number(field, number, at + 1) for at, field in enumerate(fields)])
    except csv.Error as problem:
        raise RowError(f"the CSV cannot be read: {problem}") from problem
    return numpy.array(rows, dtype=numpy.float64)


def _lines(text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    if '"' in text:
        reader = csv.reader(io.StringIO(text), delimiter=delimiter)
        return [(reader.line_num, fields) for fields in reader if fields]
    lines = enumerate(text.split("\n"), 1)
    return [(number, line.split(delimiter)) for number, line in lines if line]


def _number(field: str, line: int, column: int) -> float:
    word = field.strip()
    if not word:
        return NAN
    try:
        if "_" in word:
            raise ValueError(word)
        return float(word)
    except ValueError:
        shown = ascii(word if len(word) <= 40 else word[:37] + "...")
        raise RowError(
            f"line {line}, column {column} of the CSV is not a number: {shown}"
        ) from None
