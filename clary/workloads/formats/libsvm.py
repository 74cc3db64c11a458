"""LIBSVM text: a label, then `index:value` pairs, one row a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

INDEX_MAX = 2**31 - 2


class LibsvmError(ValueError):
    """The text is not LIBSVM; the message names the line and the pair."""


@dataclass
class LibsvmRows:
    """Rows as they were written: indices are kept as they are, counted from zero."""

    features: csr_matrix
    labels: numpy.ndarray
    weights: numpy.ndarray | None
    query_ids: numpy.ndarray | None


def read(
    text: bytes | bytearray | memoryview | str, columns: int | None = None
) -> tuple[csr_matrix, numpy.ndarray]:
    """Return (features, labels); `columns` widens the matrix to a known number of features."""
    rows = parse(text, columns)
    return rows.features, rows.labels


def parse(text: bytes | bytearray | memoryview | str, columns: int | None = None) -> LibsvmRows:
    """Read every line as `label[:weight] [qid:q] index:value ...`; `#` starts a comment."""
    from scipy.sparse import csr_matrix

    body = text.encode("utf-8") if isinstance(text, str) else bytes(text)
    heads: list[tuple[float, float | None, int | None]] = []
    indices: list[int] = []
    values: list[float] = []
    ends = [0]
    for number, line in enumerate(body.split(b"\n"), 1):
        words = line.split(b"#", 1)[0].split() if b"#" in line else line.split()
        if not words:
            continue
        heads.append(_head(words, number))
        for word in words:
            index, _colon, value = word.partition(b":")
            try:
                indices.append(int(index))
                values.append(float(value))
            except ValueError:
                raise _bad_pair(number, word) from None
        ends.append(len(values))
    if not heads:
        raise LibsvmError("the LIBSVM text holds no rows")
    width = _width(indices, columns)
    matrix = csr_matrix(
        (
            numpy.array(values, dtype=numpy.float32),
            numpy.array(indices, dtype=numpy.int64),
            numpy.array(ends, dtype=numpy.int64),
        ),
        shape=(len(heads), width),
    )
    labels = numpy.array([head[0] for head in heads], dtype=numpy.float32)
    return LibsvmRows(matrix, labels, _column(heads, 1, "weight"), _column(heads, 2, "qid"))


def _head(words: list[bytes], number: int) -> tuple[float, float | None, int | None]:
    """Take the label, its weight and the query off the front of `words`."""
    word = words.pop(0)
    label, colon, weight = word.partition(b":")
    try:
        query = None
        if words and words[0].startswith(b"qid:"):
            query = int(words.pop(0)[4:])
        return float(label), float(weight) if colon else None, query
    except ValueError:
        raise _bad_pair(number, word) from None


def _bad_pair(number: int, word: bytes) -> LibsvmError:
    shown = ascii(word[:40].decode("utf-8", "replace"))
    return LibsvmError(f"line {number} of the LIBSVM text: {shown} is not index:value")


def _width(indices: list[int], columns: int | None) -> int:
    if indices and (min(indices) < 0 or max(indices) > INDEX_MAX):
        raise LibsvmError(f"a feature index of the LIBSVM text is outside 0 to {INDEX_MAX}")
    width = max(indices) + 1 if indices else 0
    if columns is not None and width > columns:
        raise LibsvmError(f"feature index {width - 1} is beyond the {columns} known features")
    return columns if columns is not None else width


def _column(
    heads: list[tuple[float, float | None, int | None]], at: int, name: str
) -> numpy.ndarray | None:
    given = [head[at] for head in heads if head[at] is not None]
    if not given:
        return None
    if len(given) != len(heads):
        raise LibsvmError(f"some lines of the LIBSVM text have a {name} and some have none")
    return numpy.array(given)
