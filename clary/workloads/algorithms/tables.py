"""Tables of numbers, read from the files of a channel in any of the formats algorithms take.

Loading is the larger part of many trainings, so CSV goes through Arrow's reader, which uses all
processors, straight into one float32 matrix.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.errors import UserError
from clary.workloads.formats import csv_rows, libsvm, recordio_protobuf

if TYPE_CHECKING:
    import pyarrow

CSV, LIBSVM, PARQUET, RECORDIO = "csv", "libsvm", "parquet", "recordio-protobuf"
FORMATS = {
    "csv": CSV,
    "text/csv": CSV,
    "libsvm": LIBSVM,
    "text/libsvm": LIBSVM,
    "text/x-libsvm": LIBSVM,
    "parquet": PARQUET,
    "application/x-parquet": PARQUET,
    "recordio-protobuf": RECORDIO,
    "application/x-recordio-protobuf": RECORDIO,
}
DELIMITERS = ",\t;| "
_SNIPPET_LENGTH = 50
_SNIFFED_BYTES = 1 << 20
_NULLS = ["", "nan", "NaN", "NAN", "NA", "N/A", "null", "NULL", "None", "-nan"]
_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Table:
    """Examples: `features` is a float32 matrix, dense or CSR; NaN is a missing value."""

    features: Any
    labels: np.ndarray
    weights: np.ndarray | None = None
    query_ids: np.ndarray | None = None


def read(
    channel: Channel, format_name: str, *, depth_max: int, weights_in_second_column: bool = False
) -> Table | None:
    """All examples of the channel; None if it has no data. Raises UserError."""
    if channel.is_pipe:
        data = channel.pipe_bytes()
        sources: list[Path | bytes] = list(_pieces(data, format_name)) if data else []
    else:
        sources = [path for path in channel.files(depth_max) if path.stat().st_size]
    if not sources:
        return None
    if format_name in (LIBSVM, RECORDIO):
        reader = _read_libsvm if format_name == LIBSVM else _read_recordio
        return joined([reader(source) for source in sources])
    columns = [
        _csv_columns(source) if format_name == CSV else _parquet_columns(source)
        for source in sources
    ]
    return _from_columns(columns, weights_in_second_column)


def _pieces(data: bytes, format_name: str) -> list[bytes]:
    """A pipe carries its objects one after the other; only Parquet files need to be told apart."""
    if format_name != PARQUET:
        return [data]
    parts = data.split(_PARQUET_MAGIC * 2)
    return [
        (b"" if at == 0 else _PARQUET_MAGIC)
        + part
        + (b"" if at == len(parts) - 1 else _PARQUET_MAGIC)
        for at, part in enumerate(parts)
    ]


def _name(source: Path | bytes) -> str:
    return source.name if isinstance(source, Path) else "the pipe"


def _bytes(source: Path | bytes) -> bytes:
    return source.read_bytes() if isinstance(source, Path) else source


# -- CSV and Parquet: columns of Arrow ------------------------------------------------------------


def _csv_columns(source: Path | bytes) -> list[pyarrow.ChunkedArray]:
    import pyarrow
    from pyarrow import csv as arrow_csv

    line = _first_line(source)
    mark = _delimiter(line, _name(source))
    width = line.rstrip("\r\n").count(mark) + 1
    stream: str | BinaryIO | pyarrow.BufferReader = (
        str(source) if isinstance(source, Path) else pyarrow.BufferReader(source)
    )
    try:
        table = arrow_csv.read_csv(
            stream,
            read_options=arrow_csv.ReadOptions(
                autogenerate_column_names=True, block_size=4 << 20, use_threads=True
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=mark),
            convert_options=arrow_csv.ConvertOptions(
                column_types={f"f{at}": pyarrow.float32() for at in range(width)},
                null_values=_NULLS,
            ),
        )
    except (pyarrow.ArrowInvalid, UnicodeDecodeError) as problem:
        raise UserError(f"Failed to load csv data with exception:\n{problem}") from problem
    return table.columns


def _first_line(source: Path | bytes) -> str:
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.readline(_SNIFFED_BYTES)
    else:
        head = source[:_SNIFFED_BYTES].split(b"\n", 1)[0]
    return head.decode("utf-8", "replace")


def _delimiter(line: str, name: str) -> str:
    """The delimiter of a CSV file, by its first line, which must be all numbers."""
    text = line.strip("\r\n")
    mark = next((one for one in DELIMITERS if one in text), ",")
    for word in next(csv.reader([text], delimiter=mark), []):
        if word.strip() in _NULLS:
            continue
        try:
            float(word)
        except ValueError:
            raise UserError(_not_of_format(text, name, "CSV")) from None
    return mark


def _not_of_format(line: str, name: str, kind: str) -> str:
    return (
        f"First line '{line[:_SNIPPET_LENGTH]}...' of file '{name}' is not '{kind}' format. "
        f"Please ensure the file is in '{kind}' format."
    )


def _parquet_columns(source: Path | bytes) -> list[pyarrow.ChunkedArray]:
    import pyarrow
    from pyarrow import parquet

    where = str(source) if isinstance(source, Path) else pyarrow.BufferReader(source)
    try:
        return parquet.ParquetFile(where).read().columns
    except (pyarrow.ArrowException, OSError) as problem:
        raise UserError(f"Failed to load parquet data with exception:\n{problem}") from problem


def _from_columns(
    files: Sequence[Sequence[pyarrow.ChunkedArray]], weights_in_second_column: bool
) -> Table:
    """Fill one matrix column by column; the first column is the label."""
    width = len(files[0])
    first_feature = 2 if weights_in_second_column else 1
    if any(len(columns) != width for columns in files):
        raise UserError("The files of a channel differ in their number of columns.")
    if width <= first_feature:
        raise UserError(f"The data has {width} columns, which leaves no feature beside the label.")
    lengths = [len(columns[0]) for columns in files]
    features = np.empty((sum(lengths), width - first_feature), dtype=np.float32)
    heads = np.empty((first_feature, sum(lengths)), dtype=np.float32)
    start = 0
    for columns, length in zip(files, lengths):  # noqa: B905 - Python 3.8 has no `strict`
        for at, column in enumerate(columns):
            values = _numbers(column)
            if at < first_feature:
                heads[at, start : start + length] = values
            else:
                features[start : start + length, at - first_feature] = values
        start += length
    return Table(features, heads[0], heads[1] if weights_in_second_column else None)


def _numbers(column: pyarrow.ChunkedArray) -> np.ndarray:
    import pyarrow

    try:
        if not pyarrow.types.is_float32(column.type):
            column = column.cast(pyarrow.float32(), safe=False)
        return column.to_numpy()
    except (pyarrow.ArrowException, TypeError) as problem:
        raise UserError(f"A column of the data is not numeric: {problem}") from problem


# -- LIBSVM and RecordIO --------------------------------------------------------------------------


def _read_libsvm(source: Path | bytes) -> Table:
    try:
        rows = libsvm.parse(_bytes(source))
    except libsvm.LibsvmError as problem:
        line = _first_line(source).strip()
        if "line 1 " in str(problem):
            raise UserError(_not_of_format(line, _name(source), "LIBSVM")) from problem
        raise UserError(f"Failed to load libsvm data with exception:\n{problem}") from problem
    return Table(rows.features, rows.labels, rows.weights, rows.query_ids)


def _read_recordio(source: Path | bytes) -> Table:
    try:
        features, labels = recordio_protobuf.read_matrix(_bytes(source))
    except recordio_protobuf.RecordError as problem:
        message = f"Failed to load recordio-protobuf data with exception:\n{problem}"
        raise UserError(message) from problem
    if labels is None or labels.ndim != 1:
        raise UserError("Each recordio-protobuf record needs one label.")
    if isinstance(features, np.ndarray):
        features = features.astype(np.float32, copy=False)
    return Table(features, labels)


def joined(tables: Sequence[Table]) -> Table:
    """One table of the rows of all."""
    if len(tables) == 1:
        return tables[0]
    if all(isinstance(table.features, np.ndarray) for table in tables):
        if len({table.features.shape[1] for table in tables}) != 1:
            raise UserError("The files of a channel differ in their number of features.")
        features: Any = np.concatenate([table.features for table in tables])
    else:
        features = _stacked_sparse([table.features for table in tables])
    return Table(
        features,
        np.concatenate([table.labels for table in tables]),
        _joined_optional([table.weights for table in tables], "weights"),
        _joined_optional([table.query_ids for table in tables], "query ids"),
    )


def _stacked_sparse(matrices: Sequence[Any]) -> Any:
    from scipy.sparse import csr_matrix, vstack

    width = max(matrix.shape[1] for matrix in matrices)
    widened = []
    for one in matrices:
        matrix = csr_matrix(one)
        matrix.resize((matrix.shape[0], width))
        widened.append(matrix)
    return vstack(widened, format="csr")


def _joined_optional(parts: Sequence[np.ndarray | None], what: str) -> np.ndarray | None:
    present = [part for part in parts if part is not None]
    if not present:
        return None
    if len(present) != len(parts):
        raise UserError(f"Some files of a channel have {what} and some have none.")
    return np.concatenate(present)


def decode_body(body: bytes, format_name: str, columns: int | None = None) -> Any:
    """The features of an inference request: a float32 matrix, or CSR. Raises ValueError.

    A LIBSVM line of a request may lack the label; words without a colon are labels.
    """
    if format_name == CSV:
        return csv_rows.read(body, delimiter=None).astype(np.float32)
    if format_name == RECORDIO:
        features, _ = recordio_protobuf.read_matrix(body)
        return features.astype(np.float32) if isinstance(features, np.ndarray) else features
    lines = body.strip().split(b"\n")
    labelled = [line if _has_label(line) else b"0 " + line for line in lines]
    features, _ = libsvm.read(b"\n".join(labelled), columns)
    return features


def _has_label(line: bytes) -> bool:
    words = line.split(None, 1)
    return bool(words) and b":" not in words[0]
