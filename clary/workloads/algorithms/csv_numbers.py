"""CSV of numbers, piece by piece: whole lines, read by polars in threads, some ahead of their use.

    stream ──▶ pieces of whole lines ──▶ polars, a piece a thread ──▶ (rows, columns) in order
                                            │ not plainly a rectangle of numbers
                                            └──▶ the caller's careful reader, which tells why

polars takes a third of the processor time of the readers of Arrow and pandas. It forgives what an
algorithm must not, a row that is too short; those are found, and read with care like the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.pieces import PIECE_BYTES, in_threads

try:
    import polars
except ImportError:  # A user's own image need not have it; all pieces are then read with care.
    polars = None

if TYPE_CHECKING:
    import numpy as np

    Careful = Callable[[bytes, int], np.ndarray]
    Read = tuple["np.ndarray | None", int, bytes]

LINE_BYTES_MAX = 256 << 20
PIPE = "the pipe"  # what the stream of a channel in Pipe mode is called in errors
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Form:
    """What the lines look like. An empty field is NaN, and so is each of the words `missing`."""

    width: int
    mark: str = ","
    missing: tuple[str, ...] = ()
    is_finite: bool = False  # whether NaN and infinity need a careful look
    is_first_exact: bool = False  # whether the first column is float64, the others float32


class EndlessLine(ValueError):
    """A line is longer than any row of numbers is."""


def refuse_gzip(head: bytes, name: str, content_type: str) -> None:
    """Raise UserError where a file that should be text begins as gzip data does."""
    if head.startswith(_GZIP_MAGIC):
        raise UserError(
            f"'{name}' is compressed with gzip, and the content type {content_type} is plain text. "
            "Compressed objects are read in Pipe mode only: give the channel InputMode=Pipe and "
            "CompressionType=Gzip, or store the objects decompressed."
        )


def joins_lines(columns: int, width: int) -> str:
    """A remark on a line of a pipe that is just as long as two lines without an end between them."""
    if columns != 2 * width - 1:
        return ""
    return (
        ". A pipe carries the objects of a channel one behind the other as they are: the object "
        "that ends here seems to lack the line end after its last line"
    )


def pieces(stream: BinaryIO, content_type: str = "text/csv") -> Iterator[bytes]:
    """The bytes of a stream, cut after line ends; raise EndlessLine, or UserError if compressed."""
    name = Path(str(getattr(stream, "name", "") or PIPE)).name
    octets = bytearray(PIECE_BYTES)
    buffer = memoryview(octets)
    kept = 0  # bytes of a line whose end is still to come: no line ends before here
    long: list[bytes] = []  # what is before them, of a line that is longer than a piece
    is_first = True
    while count := stream.readinto(buffer[kept:]):  # type: ignore[attr-defined]
        end = kept + count
        if is_first:
            refuse_gzip(bytes(buffer[:2]), name, content_type)
            is_first = False
        cut = octets.rfind(b"\n", kept, end) + 1
        if cut:
            yield b"".join((*long, buffer[:cut]))
            long.clear()
        kept = end - cut
        buffer[:kept] = buffer[cut:end]
        if kept == len(buffer):
            long.append(bytes(buffer))
            kept = 0
            if len(long) * len(buffer) > LINE_BYTES_MAX:
                raise EndlessLine
    rest = b"".join((*long, buffer[:kept]))
    if rest.strip():
        yield rest


def rows(
    parts: Iterable[bytes],
    form_of: Callable[[bytes], Form],
    carefully: Careful,
    threads: int | None = None,
) -> Iterator[np.ndarray]:
    """The numbers of the pieces of one file, whose first piece tells the form of all.

    `carefully(piece, lines before it)` reads what is not plain, or raises UserError.
    """
    lines = 0
    for found, count, piece in in_threads(_with_form(parts, form_of, carefully), _read, threads):
        # The error was of a reader that did not know how many lines are before the piece.
        yield carefully(piece, lines) if found is None else found
        lines += count


def _with_form(
    parts: Iterable[bytes], form_of: Callable[[bytes], Form], carefully: Careful
) -> Iterator[tuple[bytes, Form, Careful]]:
    form: Form | None = None
    for piece in parts:
        form = form or form_of(piece)
        yield piece, form, carefully


def _read(piece: bytes, form: Form, carefully: Careful) -> Read:
    """(rows, number of lines, nothing), or (None, .., the piece) where a line is wrong."""
    plain = read(piece, form)
    if plain is not None:
        return plain, len(plain), b""
    count = piece.count(b"\n")
    try:
        return carefully(piece, 0), count, b""
    except UserError:
        return None, count, piece


def read(piece: bytes, form: Form) -> np.ndarray | None:
    """The numbers of whole lines as float32; None where they are not plainly a rectangle."""
    found = frame(piece, form)
    if found is None:
        return None
    table = found.to_numpy()
    # The sums find what is not finite; a sum may overflow where no number does.
    return None if form.is_finite and not _is_finite(table) else table


def frame(piece: bytes, form: Form) -> Any:
    """The same as a frame of polars."""
    if polars is None:
        return None
    for missing in ((), form.missing) if form.missing else ((),):
        try:
            found = _frame(polars, piece, form, missing)
        except polars.exceptions.PolarsError:
            continue
        return None if _has_nulls(found) and _is_ragged(piece, form, found.height) else found
    return None


def _is_ragged(piece: bytes, form: Form, rows: int) -> bool:
    """Whether nulls may stand for more than empty fields: for those that a short row lacks."""
    mark = form.mark.encode()
    has_blanks = mark != b" " and b" " in piece  # a blank alone is a null, too
    return has_blanks or form.width == 1 or piece.count(mark) != rows * (form.width - 1)


def _frame(library: Any, text: bytes, form: Form, missing: tuple[str, ...]) -> Any:
    kinds = [library.Float32] * form.width
    if form.is_first_exact:
        kinds[0] = library.Float64
    return library.read_csv(
        text,
        has_header=False,
        schema={f"column_{at}": kind for at, kind in enumerate(kinds)},
        separator=form.mark,
        null_values=list(missing) or None,
        n_threads=1,
    )


def _has_nulls(frame: Any) -> bool:
    return any(column.null_count() for column in frame.get_columns())


def _is_finite(table: np.ndarray) -> bool:
    sums = table.sum(axis=0, dtype="float64")
    return bool((sums - sums == 0).all())
