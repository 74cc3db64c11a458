"""LIBSVM text: a label, then `index:value` pairs, one row a line.

Plain text, labels and pairs alone, becomes a table of two columns, which polars reads in a fifth of
the time that a loop of Python takes:

    0.5 3:1.5 7:2  ──▶  :0.5
                        3:1.5
                        7:2
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy

try:
    import polars  # pyright: ignore[reportMissingImports]
except ImportError:  # The environment of an image need not have it.
    polars = None

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

INDEX_MAX = 2**31 - 2
_BLANK_TO_LINE_END = bytes.maketrans(b" ", b"\n")


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
    return joined([part(text)], columns)


def part(text: bytes | bytearray | memoryview | str, lines_before: int = 0) -> LibsvmRows:
    """Some of the lines of a text, which may hold no rows; errors count lines of the whole."""
    body = text.encode("utf-8") if isinstance(text, str) else bytes(text)
    return _plain(body) or _careful(body, lines_before)


def joined(parts: Iterable[LibsvmRows], columns: int | None = None) -> LibsvmRows:
    """The rows of all parts of a text, as wide as the widest, or as `columns` says."""
    from scipy.sparse import csr_matrix

    ahead: deque[Any] = deque(one for one in parts if len(one.labels))
    if not ahead:
        raise LibsvmError("the LIBSVM text holds no rows")
    width = max(one.features.shape[1] for one in ahead)
    if columns is not None and width > columns:
        raise LibsvmError(f"feature index {width - 1} is beyond the {columns} known features")
    rows, pairs = sum(len(one.labels) for one in ahead), sum(one.features.nnz for one in ahead)
    labels = numpy.concatenate([one.labels for one in ahead])
    weights = _column([one.weights for one in ahead], "weight")
    query_ids = _column([one.query_ids for one in ahead], "qid")
    values = numpy.empty(pairs, numpy.float32)
    indices = numpy.empty(pairs, numpy.int32)
    ends = numpy.zeros(rows + 1, numpy.int64)
    row = pair = 0
    while ahead:  # Each part is let go of once it is copied.
        matrix = ahead.popleft().features
        ends[row + 1 : row + matrix.shape[0] + 1] = matrix.indptr[1:] + pair
        values[pair : pair + matrix.nnz] = matrix.data
        indices[pair : pair + matrix.nnz] = matrix.indices
        row, pair = row + matrix.shape[0], pair + matrix.nnz
    shape = (rows, width if columns is None else columns)
    return LibsvmRows(csr_matrix((values, indices, ends), shape=shape), labels, weights, query_ids)


def _plain(body: bytes) -> LibsvmRows | None:
    """All lines at once; None where there is more than labels and pairs with one blank between."""
    body = body.replace(b"\r\n", b"\n").replace(b" \n", b"\n").rstrip()
    if polars is None or not body:
        return None
    text = b":" + body.replace(b"\n", b"\n:").translate(_BLANK_TO_LINE_END)
    try:
        table = _two_columns(polars, text)
    except polars.exceptions.PolarsError:
        return None
    starts = numpy.flatnonzero(table["index"].is_null().to_numpy())
    if table["value"].null_count() or len(starts) != body.count(b"\n") + 1:
        return None
    is_pair = numpy.ones(table.height, dtype=bool)
    is_pair[starts] = False
    found: Any = table["value"].to_numpy()
    indices: Any = table["index"].drop_nulls().to_numpy()
    ends = numpy.append(starts - numpy.arange(len(starts)), len(indices))
    return LibsvmRows(_matrix(found[is_pair], indices, ends), found[starts], None, None)


def _two_columns(library: Any, text: bytes) -> Any:
    return library.read_csv(
        text,
        has_header=False,
        separator=":",
        quote_char=None,
        schema={"index": library.Int64, "value": library.Float32},
        n_threads=1,
    )


def _careful(body: bytes, lines_before: int) -> LibsvmRows:
    """Line by line, and pair by pair."""
    heads: list[tuple[float, float | None, int | None]] = []
    indices: list[int] = []
    values: list[float] = []
    ends = [0]
    for number, line in enumerate(body.split(b"\n"), lines_before + 1):
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
    matrix = _matrix(numpy.array(values, dtype=numpy.float32), indices, numpy.array(ends))
    labels = numpy.array([head[0] for head in heads], dtype=numpy.float32)
    return LibsvmRows(matrix, labels, _given(heads, 1, "weight"), _given(heads, 2, "qid"))


def _matrix(values: numpy.ndarray, indices: Any, ends: numpy.ndarray) -> csr_matrix:
    from scipy.sparse import csr_matrix

    smallest, largest = _bounds(indices)
    if smallest < 0 or largest > INDEX_MAX:
        raise LibsvmError(f"a feature index of the LIBSVM text is outside 0 to {INDEX_MAX}")
    columns = numpy.asarray(indices, dtype=numpy.int32)
    return csr_matrix((values, columns, ends), shape=(len(ends) - 1, largest + 1))


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


def _bounds(indices: Any) -> tuple[int, int]:
    if not len(indices):
        return 0, -1
    if isinstance(indices, list):
        return min(indices), max(indices)
    return int(indices.min()), int(indices.max())


def _given(
    heads: list[tuple[float, float | None, int | None]], at: int, name: str
) -> numpy.ndarray | None:
    given = [head[at] for head in heads if head[at] is not None]
    if given and len(given) != len(heads):
        raise _only_some(name)
    return numpy.array(given) if given else None


def _column(parts: list[numpy.ndarray | None], name: str) -> numpy.ndarray | None:
    given = [one for one in parts if one is not None]
    if given and len(given) != len(parts):
        raise _only_some(name)
    return numpy.concatenate(given) if given else None


def _only_some(name: str) -> LibsvmError:
    return LibsvmError(f"some lines of the LIBSVM text have a {name} and some have none")
