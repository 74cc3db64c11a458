"""Tables with columns of text among the numbers: categories as text, the rest as float32."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from clary.workloads.algorithms import csv_numbers
from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.job import Job
from clary.workloads.algorithms.tabular import layout, matrices
from clary.workloads.algorithms.tabular.numeric_rows import decode as decode_numbers
from clary.workloads.algorithms.tabular.serving import unfit
from clary.workloads.algorithms.tabular.splits import Fifth

_SNIFFED_BYTES = 1 << 20


@dataclass(frozen=True)
class Frame:
    """`features` is a DataFrame whose columns are numbered from 0."""

    features: Any
    labels: np.ndarray

    @property
    def count(self) -> int:
        return len(self.labels)

    def rows(self, mask: np.ndarray) -> Frame:
        return Frame(self.features[mask].reset_index(drop=True), self.labels[mask])


def read_both(job: Job, found: layout.Layout) -> tuple[Frame, Frame]:
    """The training data, and what validates it: a channel's, or a fifth of the training data."""
    training, validation = _plain(found) or _with_words(found)
    if not training.count or not validation.count:
        count = training.count + validation.count
        raise UserError(f"{count} rows are too few to train on and to validate with.")
    features = training.features.shape[1]
    if validation.features.shape[1] != features:
        raise UserError(
            f"The training data has {features} features, the validation data "
            f"{validation.features.shape[1]}."
        )
    return training, validation


def _plain(found: layout.Layout) -> tuple[Frame, Frame] | None:
    """Both tables, if they hold numbers alone, as those that are large mostly do."""
    if found.categorical:
        return None
    try:
        if not found.validation:
            both = matrices.read_in_two(found.training)
        else:
            both = matrices.read(found.training), matrices.read(found.validation)
    except matrices.NotPlain:
        return None
    if not all(one.count for one in both):
        return None
    training, validation = (
        Frame(pandas.DataFrame(one.features(), copy=False), _present(one.labels())) for one in both
    )
    return training, validation


def _with_words(found: layout.Layout) -> tuple[Frame, Frame]:
    training = read(found.training, found.categorical)
    if found.validation:
        return training, read(found.validation, found.categorical)
    mask = Fifth().mask(training.count)
    return training.rows(~mask), training.rows(mask)


def _present(labels: Any) -> np.ndarray:
    if pandas.isna(labels).any():
        raise UserError("The label in the first column is missing in some rows.")
    return np.asarray(labels)


def read(paths: Sequence[Path], categorical: Sequence[int]) -> Frame:
    """All rows of the files; raise UserError where a number is none."""
    parts = [_read(path, categorical) for path in paths]
    if len({part.shape[1] for part in parts}) != 1:
        raise UserError("The files of a channel differ in their number of columns.")
    whole = parts[0] if len(parts) == 1 else pandas.concat(parts, ignore_index=True)
    labels = whole.pop(0)
    whole.columns = range(whole.shape[1])
    return Frame(whole, _present(labels))


def _read(path: Path, categorical: Sequence[int]) -> Any:
    with path.open("rb") as file:
        head = file.readline(_SNIFFED_BYTES)
    csv_numbers.refuse_gzip(head, path.name, "text/csv")
    line = head.decode("utf-8", "replace")
    width = len(next(csv.reader([line.strip("\r\n")]), []))
    if width < 2:
        raise UserError(
            f"'{path.name}' has {width} columns, which leaves no feature beside the label."
        )
    layout.check_categorical(categorical, width - 1)
    words = {at + 1 for at in categorical}
    kinds: dict[int, Any] = {at: "str" if at in words else np.float32 for at in range(1, width)}
    try:
        frame = pandas.read_csv(path, header=None, dtype=kinds)
    except (ValueError, pandas.errors.ParserError, UnicodeDecodeError) as problem:
        message = f"Failed to load csv data with exception:\n{path.name}: {problem}"
        raise UserError(message) from problem
    for at in sorted(words):
        frame[at] = _categories(frame[at])
    return frame


def _categories(column: Any) -> Any:
    """Categories as text; `3` and `3.0` are one, a missing one is the empty text."""
    return column.fillna("").astype(str).str.strip().str.replace(r"\.0+$", "", regex=True)


def decode(body: bytes, features: int, categorical: Sequence[int]) -> np.ndarray:
    """The rows of a request: a float matrix, or objects where some are text; refuses with 400."""
    if not categorical:
        return decode_numbers(body, features).astype(np.float32)
    try:
        text = body.decode("utf-8")
        lines = [line for line in csv.reader(io.StringIO(text)) if line]
    except (UnicodeDecodeError, csv.Error) as problem:
        raise unfit(f"the body is not CSV: {problem}") from problem
    rows = np.empty((len(lines), features), dtype=object)
    words = set(categorical)
    for at, line in enumerate(lines):
        if len(line) != features:
            raise unfit(
                f"the rows have {len(line)} features, the model was trained with {features}"
            )
        for column, word in enumerate(line):
            rows[at, column] = word.strip() if column in words else _number(word, at, column)
    for column in categorical:
        rows[:, column] = _categories(pandas.Series(rows[:, column])).to_numpy(dtype=object)
    return rows


def _number(word: str, row: int, column: int) -> float:
    if not word.strip():
        return float("nan")
    try:
        return float(np.float32(word))
    except ValueError:
        raise unfit(f"row {row + 1}, column {column + 1}: {word!r} is not a number") from None
