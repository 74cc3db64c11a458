"""The frequency of time series: numbered periods, what a calendar says of them, and how far to look back."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)?")
_NUMPY_UNITS = {"min": "m", "H": "h", "D": "D", "W": "D", "M": "M"}
_MINUTES_AN_HOUR, _HOURS_A_DAY, _DAYS_A_WEEK = 60, 24, 7
_FIRST_DAY_OF_1970 = 3  # a Thursday
# For each unit the lengths of its seasons, and how many of them are looked back upon.
_SEASONS = {
    "min": ((60, 3), (1440, 3), (10080, 1)),
    "H": ((24, 7), (168, 4)),
    "D": ((7, 4), (30, 2), (364, 1)),
    "W": ((4, 3), (52, 2)),
    "M": ((12, 3),),
}
_NEAREST = 7


@dataclass(frozen=True)
class Frequency:
    """`multiple` units are one step of a series; a point of time is a number of units since 1970."""

    multiple: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Frequency:
        """`15min`, `H`, `1D`, ...; the hyperparameter's pattern has been checked."""
        digits = re.match(r"\d*", text)
        count = digits.group() if digits else ""
        return cls(int(count or 1), text[len(count) :])

    @property
    def step(self) -> int:
        """How many numbered points are between one value and the next."""
        return self.multiple * (_DAYS_A_WEEK if self.unit == "W" else 1)

    def point(self, start: object) -> int:
        """The point that a timestamp lies in; raises ValueError."""
        text = str(start)
        if not isinstance(start, str) or not _TIMESTAMP.fullmatch(text):
            raise ValueError(
                f"start must be a timestamp YYYY-MM-DD HH:MM:SS without a time zone, not {start!r}"
            )
        stamp = np.datetime64(text, "us").astype(f"datetime64[{_NUMPY_UNITS[self.unit]}]")
        return int(stamp.astype(np.int64))

    def lags(self) -> list[int]:
        """Which earlier values a value is told from, in ascending order."""
        found = set(range(1, _NEAREST + 1))
        for length, count in _SEASONS[self.unit]:
            season = length / self.multiple
            for at in range(1, count + 1):
                middle = round(season * at)
                found.update(lag for lag in (middle - 1, middle, middle + 1) if lag > 0)
        return sorted(found)

    def features(self, points: np.ndarray) -> np.ndarray:
        """What the calendar says of each point, between -0.5 and 0.5; a last axis is added."""
        found = [value / (size - 1) - 0.5 for value, size in self._parts(points)]
        return np.stack(found, axis=-1).astype(np.float32)

    def _parts(self, points: np.ndarray) -> list[tuple[np.ndarray, int]]:
        """Each part of a date with the number of values that it may have."""
        if self.unit == "M":
            return [(points % 12, 12)]
        days = points // {
            "min": _MINUTES_AN_HOUR * _HOURS_A_DAY,
            "H": _HOURS_A_DAY,
        }.get(self.unit, 1)
        dates = days.astype("datetime64[D]")
        day_of_month = (dates - dates.astype("datetime64[M]")).astype(np.int64)
        day_of_year = (dates - dates.astype("datetime64[Y]")).astype(np.int64)
        if self.unit == "W":
            return [(day_of_month, 31), (day_of_year // _DAYS_A_WEEK, 53)]
        parts = [
            ((days + _FIRST_DAY_OF_1970) % _DAYS_A_WEEK, _DAYS_A_WEEK),
            (day_of_month, 31),
            (day_of_year, 366),
        ]
        if self.unit == "D":
            return parts
        hours = points // _MINUTES_AN_HOUR if self.unit == "min" else points
        parts.insert(0, (hours % _HOURS_A_DAY, _HOURS_A_DAY))
        if self.unit == "min":
            parts.insert(0, (points % _MINUTES_AN_HOUR, _MINUTES_AN_HOUR))
        return parts
