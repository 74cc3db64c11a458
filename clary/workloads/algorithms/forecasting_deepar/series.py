"""Time series: one checked record, the files that hold them, and all of them as flat arrays."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.first_party.errors import ClientError, unreadable
from clary.workloads.algorithms.forecasting_deepar import FILES
from clary.workloads.algorithms.forecasting_deepar.frequency import Frequency

try:
    from orjson import loads as _loads
except ImportError:  # The environment of an image need not have it.
    from json import loads as _loads

FOLDER_DEPTH_MAX = 32
JSON_LINES, PARQUET = "application/jsonlines", "application/x-parquet"
_PARQUET_TYPES = ("parquet", PARQUET)
_JSON_SUFFIXES = (".json", ".json.gz", ".jsonl", ".jsonl.gz")
_GZIP_MAGIC = b"\x1f\x8b"
_COLUMNS = ("start", "target", "cat", "dynamic_feat")
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Series:
    """One time series; NaN is a missing value."""

    start: int
    target: np.ndarray
    categories: tuple[int, ...]
    dynamic: np.ndarray  # one row a feature


@dataclass(frozen=True)
class Form:
    """What all series of a model have in common; None is not known yet."""

    frequency: Frequency
    cardinality: list[int] | None
    dynamic: int | None
    # What values may be: all, "positive" ones and 0, or those of the "unit" interval.
    support: str = "all"

    def series(self, document: Any, ahead: int = 0) -> Series:
        """A checked record, whose features go `ahead` of its values; raises ValueError."""
        if not isinstance(document, dict):
            raise ValueError("a time series is an object with start and target")
        for name in ("start", "target"):
            if name not in document:
                raise ValueError(f"'{name}' is missing")
        target = _numbers(document["target"], "target", missing=True)
        self._check_support(target)
        return Series(
            self.frequency.point(document["start"]),
            target,
            self._categories(document.get("cat")),
            self._dynamic(document.get("dynamic_feat"), len(target) + ahead),
        )

    def _check_support(self, target: np.ndarray) -> None:
        if self.support != "all" and (target < 0).any():
            raise ValueError("target holds a negative number, which the likelihood excludes")
        if self.support == "unit" and (target > 1).any():
            raise ValueError("target holds a number above 1, which likelihood beta excludes")

    def _categories(self, found: Any) -> tuple[int, ...]:
        if self.cardinality == []:
            return ()
        found = [found] if type(found) is int else (found or [])
        if not isinstance(found, list) or not all(type(one) is int and one >= 0 for one in found):
            raise ValueError("cat must be a list of whole numbers that are not negative")
        if self.cardinality is not None:
            if len(found) != len(self.cardinality):
                raise ValueError(
                    f"cat has {len(found)} categories, where there must be {len(self.cardinality)}"
                )
            for one, size in zip(found, self.cardinality):  # noqa: B905 - Python 3.8
                if one >= size:
                    raise ValueError(f"cat holds {one}, which is not below its cardinality {size}")
        return tuple(found)

    def _dynamic(self, found: Any, length: int) -> np.ndarray:
        if self.dynamic == 0 or found is None:
            rows: list[np.ndarray] = []
        elif isinstance(found, list):
            rows = [_numbers(one, "dynamic_feat", missing=False) for one in found]
        else:
            raise ValueError("dynamic_feat must be a list of lists of numbers")
        if self.dynamic is not None and len(rows) != self.dynamic:
            raise ValueError(
                f"dynamic_feat has {len(rows)} features, where there must be {self.dynamic}"
            )
        for row in rows:
            if len(row) != length:
                raise ValueError(
                    f"a feature of dynamic_feat has {len(row)} values, where there must be {length}"
                )
        return np.stack(rows) if rows else np.empty((0, length), dtype=np.float32)


def _numbers(found: Any, name: str, *, missing: bool) -> np.ndarray:
    if not isinstance(found, list):
        raise ValueError(f"{name} must be a list of numbers")
    kinds = set(map(type, found))
    if not kinds <= {int, float, str, type(None)}:
        raise ValueError(f"{name} holds something that is no number")
    if str in kinds:
        wrong = next((one for one in found if isinstance(one, str) and one != "NaN"), None)
        if wrong is not None:
            raise ValueError(f"{name} holds {wrong[:40]!r}, which is no number")
    numbers = np.array(found, dtype=np.float64).astype(np.float32)
    if np.isinf(numbers).any():
        raise ValueError(f"{name} holds a number that is too large")
    if not missing and np.isnan(numbers).any():
        raise ValueError(f"{name} holds a missing value")
    return numbers


def read(channel: Channel, form: Form) -> list[Series]:
    """All series of a channel, which agree in their features. Raises ClientError."""
    found: list[Series] = []
    for path in channel.files(FOLDER_DEPTH_MAX):
        is_parquet = _is_parquet(channel, path)
        documents = _parquet_rows(path, channel) if is_parquet else _lines(path, channel)
        kind, unit = (PARQUET, "row") if is_parquet else (JSON_LINES, "line")
        for at, document in documents:
            try:
                one = form.series(_loads(document) if isinstance(document, bytes) else document)
                _check_alike(one, found[0] if found else one)
            except (ValueError, TypeError, OverflowError, RecursionError) as problem:
                cause = f"'{path.name}', {unit} {at}: {problem}"
                raise unreadable(channel.name, kind, cause) from problem
            found.append(one)
    return found


def _check_alike(one: Series, first: Series) -> None:
    if len(one.categories) != len(first.categories):
        raise ValueError(
            f"cat has {len(one.categories)} categories, the first series {len(first.categories)}"
        )
    if len(one.dynamic) != len(first.dynamic):
        raise ValueError(
            f"dynamic_feat has {len(one.dynamic)} features, the first series {len(first.dynamic)}"
        )


def _is_parquet(channel: Channel, path: Path) -> bool:
    name = path.name.lower()
    if channel.content_type not in FILES:
        raise ClientError(
            f"Content type {channel.declared_type} of channel '{channel.name}' is not supported. "
            "Supported content types: application/jsonlines, json, json.gz, parquet, auto."
        )
    if channel.content_type in _PARQUET_TYPES:
        return True
    if name.endswith(".parquet"):
        return channel.content_type in ("", "auto")
    if channel.content_type in ("", "auto") and not name.endswith(_JSON_SUFFIXES):
        raise ClientError(
            f"'{path.name}' of channel '{channel.name}' ends in none of .json, .jsonl, .json.gz "
            "and .parquet: set the ContentType of the channel to json or parquet."
        )
    return False


def _lines(path: Path, channel: Channel) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as raw:
        is_gzip = raw.read(2) == _GZIP_MAGIC
    try:
        with gzip.open(path, "rb") if is_gzip else path.open("rb") as lines:
            for at, line in enumerate(lines, 1):
                if line.strip():
                    yield at, line
    except (EOFError, gzip.BadGzipFile) as problem:
        raise unreadable(channel.name, JSON_LINES, f"'{path.name}': {problem}") from problem


def _parquet_rows(path: Path, channel: Channel) -> Iterator[tuple[int, dict[str, Any]]]:
    import polars

    try:
        table = polars.read_parquet(path)
        table = table.select([name for name in _COLUMNS if name in table.columns])
        for name, kind in table.schema.items():
            if kind.is_temporal():
                column = polars.col(name).dt.strftime("%Y-%m-%d %H:%M:%S")
                table = table.with_columns(column)
    except (polars.exceptions.PolarsError, OSError) as problem:
        raise unreadable(channel.name, PARQUET, f"'{path.name}': {problem}") from problem
    yield from enumerate(table.iter_rows(named=True, buffer_size=_ROWS_AT_ONCE), 1)


# -- all series -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """Many series in flat arrays: series `i` has its values at `offsets[i]`, `slots[i]` of them.

    A slot without a value yet, for which there are features only, holds NaN.
    """

    starts: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray  # values
    slots: np.ndarray  # values and features that go ahead of them
    target: np.ndarray
    dynamic: np.ndarray  # one row a feature
    categories: np.ndarray

    @property
    def count(self) -> int:
        return len(self.starts)


def panel(all_series: Sequence[Series], dynamic: int) -> Panel:
    slots = np.array([one.dynamic.shape[1] for one in all_series], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(slots)]).astype(np.int64)
    target = np.full(int(offsets[-1]), np.nan, dtype=np.float32)
    features = np.zeros((dynamic, int(offsets[-1])), dtype=np.float32)
    for one, start, end in zip(all_series, offsets[:-1], offsets[1:]):  # noqa: B905 - Python 3.8
        target[start : start + len(one.target)] = one.target
        features[:, start:end] = one.dynamic
    width = len(all_series[0].categories) if all_series else 0
    return Panel(
        starts=np.array([one.start for one in all_series], dtype=np.int64),
        offsets=offsets[:-1],
        lengths=np.array([len(one.target) for one in all_series], dtype=np.int64),
        slots=slots,
        target=target,
        dynamic=features,
        categories=np.array([one.categories for one in all_series], dtype=np.int64).reshape(
            len(all_series), width
        ),
    )
