"""Tables of numbers, read from the files of a channel in any of the formats algorithms take.

Dense data go block by block straight into one float32 matrix: neither the text nor a second copy
of the numbers is ever held as a whole.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from clary.workloads.algorithms import csv_columns, csv_numbers
from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.first_party import recordio_blocks
from clary.workloads.algorithms.growing_matrix import GrowingMatrix, SpilledMatrix
from clary.workloads.algorithms.pieces import in_threads
from clary.workloads.formats import csv_rows, libsvm, recordio_protobuf

if TYPE_CHECKING:
    Block = tuple[np.ndarray, np.ndarray]

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
ROWS_AT_ONCE = 65536
SPILLED_BYTES_MIN = 128 << 20
_SNIFFED_BYTES = 1 << 20
_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Table:
    """Examples: `features` is a float32 matrix, dense or CSR; NaN is a missing value."""

    features: Any
    labels: np.ndarray
    weights: np.ndarray | None = None
    query_ids: np.ndarray | None = None


def read(
    channel: Channel,
    format_name: str,
    *,
    depth_max: int,
    weights_in_second_column: bool = False,
    threads: int = 2,
    spills: bool = False,
) -> Table | None:
    """All examples of the channel; None if it has no data. Raises UserError.

    With `spills`, large dense features are in a file, for a caller that makes another form of
    them.
    """
    heads = 2 if weights_in_second_column else 1
    if channel.is_pipe and format_name == CSV:
        path = channel.path.parent / f"{channel.path.name}_0"
        with path.open("rb") as pipe:
            return dense(csv_columns.blocks(pipe, "the pipe", heads, threads), 0, spills=spills)
    if channel.is_pipe:
        data = channel.pipe_bytes()
        sources: list[Path | bytes] = list(_pieces(data, format_name)) if data else []
    else:
        sources = [path for path in channel.files(depth_max) if path.stat().st_size]
    if format_name == CSV:
        paths = [one for one in sources if isinstance(one, Path)]
        return read_csv(paths, heads, threads, spills=spills)
    if not sources:
        return None
    if format_name == LIBSVM:
        return joined([_read_libsvm(source, threads) for source in sources])
    if format_name == PARQUET:
        size = sum(map(_size, sources))
        return dense(_parquet_blocks(sources, heads), size, spills=spills)
    return _read_recordio(sources, spills=spills)


def read_csv(
    paths: Sequence[Path], heads: int, threads: int, *, spills: bool = False
) -> Table | None:
    """The rows of CSV files; None if they have none."""
    size = sum(path.stat().st_size for path in paths)
    return dense(csv_blocks(paths, heads, threads), size, spills=spills)


def dense(blocks: Iterator[Block], bytes_expected: int, *, spills: bool) -> Table | None:
    """One table of all blocks, each of them (first columns, other columns); None of no rows."""
    builder = TableBuilder(bytes_expected, spills=spills)
    for heads, features in blocks:
        builder.add(heads, features)
    return builder.table()


class TableBuilder:
    """Collects blocks, of about so many bytes of text, in one matrix."""

    def __init__(self, bytes_expected: int, *, spills: bool = False) -> None:
        self.bytes_expected = bytes_expected
        self.spills = spills and bytes_expected > SPILLED_BYTES_MIN
        self.matrix: GrowingMatrix | SpilledMatrix | None = None
        self.heads: list[np.ndarray] = []

    def add(self, heads: np.ndarray, features: np.ndarray) -> None:
        """(columns, rows) and (rows, columns); raise UserError where the width is another."""
        width = features.shape[1]
        if self.matrix is None:
            self.matrix = (
                SpilledMatrix(width)
                if self.spills
                else GrowingMatrix.like(features, self.bytes_expected)
            )
        if width != self.matrix.width:
            raise UserError("The files of a channel differ in their number of columns.")
        self.matrix.extend(features)
        self.heads.append(heads)

    def table(self) -> Table | None:
        """All rows; None if there are none. The builder is empty then."""
        matrix, heads = self.matrix, self.heads
        self.matrix, self.heads = None, []
        if matrix is None or not matrix.count:
            return None
        columns = np.concatenate(heads, axis=1)
        return Table(matrix.whole(), columns[0], columns[1] if len(columns) > 1 else None)


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


# -- CSV and Parquet ------------------------------------------------------------------------------


def csv_blocks(paths: Sequence[Path], heads: int, threads: int) -> Iterator[Block]:
    """(first columns, other columns) of the rows of the files, some thousands at a time."""
    for path in paths:
        with path.open("rb", buffering=0) as stream:
            yield from csv_columns.blocks(stream, path.name, heads, threads)


def _first_line(source: Path | bytes) -> str:
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.readline(_SNIFFED_BYTES)
    else:
        head = source[:_SNIFFED_BYTES].split(b"\n", 1)[0]
    return head.decode("utf-8", "replace")


def _parquet_blocks(sources: Sequence[Path | bytes], heads: int) -> Iterator[Block]:
    import pyarrow
    from pyarrow import parquet

    for source in sources:
        where = str(source) if isinstance(source, Path) else pyarrow.BufferReader(source)
        try:
            file = parquet.ParquetFile(where)
            width = file.metadata.num_columns
            if width <= heads:
                raise UserError(
                    f"The data has {width} columns, which leaves no feature beside the label."
                )
            for batch in file.iter_batches(ROWS_AT_ONCE):
                table = pyarrow.Table.from_batches([batch])
                yield csv_columns.split(table.columns, heads)
        except (pyarrow.ArrowException, OSError) as problem:
            message = f"Failed to load parquet data with exception:\n{problem}"
            raise UserError(message) from problem


# -- LIBSVM and RecordIO --------------------------------------------------------------------------


def _read_libsvm(source: Path | bytes, threads: int) -> Table:
    try:
        with _opened(source) as stream:
            lines = _numbered(csv_numbers.pieces(stream, "text/libsvm"))
            rows = libsvm.joined(in_threads(lines, libsvm.part, threads))
    except csv_numbers.EndlessLine:
        raise UserError(f"The file '{_name(source)}' has a line without an end.") from None
    except libsvm.LibsvmError as problem:
        line = _first_line(source).strip()
        if "line 1 " in str(problem):
            raise UserError(csv_columns.not_of_format(line, _name(source), "LIBSVM")) from problem
        raise UserError(f"Failed to load libsvm data with exception:\n{problem}") from problem
    return Table(rows.features, rows.labels, rows.weights, rows.query_ids)


def _numbered(parts: Iterator[bytes]) -> Iterator[tuple[bytes, int]]:
    """Each piece with the number of lines before it."""
    lines = 0
    for piece in parts:
        yield piece, lines
        lines += piece.count(b"\n")


def _read_recordio(sources: Sequence[Path | bytes], *, spills: bool) -> Table:
    """Dense records in blocks; where a file has sparse ones, each file as a whole."""
    first = _recordio_table(next(_recordio_pieces(sources[:1])))
    if not isinstance(first.features, np.ndarray):
        return joined([_recordio_table(_bytes(source)) for source in sources])
    blocks = (_recordio_block(piece) for piece in _recordio_pieces(sources))
    table = dense(blocks, sum(map(_size, sources)), spills=spills)
    assert table is not None
    return table


def _recordio_pieces(sources: Sequence[Path | bytes]) -> Iterator[bytes]:
    for source in sources:
        with _opened(source) as stream:
            try:
                yield from recordio_blocks.pieces(stream, _name(source), "train")
            except UserError as problem:
                raise _unreadable_recordio(problem) from problem


@contextmanager
def _opened(source: Path | bytes) -> Iterator[BinaryIO]:
    stream = source.open("rb", buffering=0) if isinstance(source, Path) else io.BytesIO(source)
    with stream:
        yield stream


def _size(source: Path | bytes) -> int:
    return source.stat().st_size if isinstance(source, Path) else len(source)


def _recordio_block(piece: bytes) -> Block:
    table = _recordio_table(piece)
    if not isinstance(table.features, np.ndarray):
        raise UserError("Some files of a channel have dense records and some have sparse ones.")
    return table.labels[None].astype(np.float32, copy=False), table.features


def _recordio_table(data: bytes) -> Table:
    try:
        features, labels = recordio_protobuf.read_matrix(data)
    except recordio_protobuf.RecordError as problem:
        raise _unreadable_recordio(problem) from problem
    if labels is None or labels.ndim != 1:
        raise UserError("Each recordio-protobuf record needs one label.")
    if isinstance(features, np.ndarray):
        features = features.astype(np.float32, copy=False)
    return Table(features, labels)


def _unreadable_recordio(problem: Exception) -> UserError:
    return UserError(f"Failed to load recordio-protobuf data with exception:\n{problem}")


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
