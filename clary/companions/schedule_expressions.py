"""Schedule expressions as AWS writes them: at(...), rate(...) and cron(...), and when they are due. Pure.

    at(2026-03-01T08:00:00)   rate(5 minutes)   cron(0 8 ? * MON-FRI *)
The six fields of cron are minute, hour, day of month, month, day of week (1 is Sunday) and year.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_UNITS = {"minute": 60, "hour": 3600, "day": 86_400}
_RATE = re.compile(r"rate\((\d{1,9}) (minute|hour|day)(s?)\)")
_AT = re.compile(r"at\((\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})\)")
_CRON = re.compile(r"cron\(([^()]+)\)")
_MONTH_NAMES = (
    *("JAN", "FEB", "MAR", "APR", "MAY", "JUN"),
    *("JUL", "AUG", "SEP", "OCT", "NOV", "DEC"),
)
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_DAYS = {name: number for number, name in enumerate(_DAY_NAMES, 1)}
_UTC = ZoneInfo("UTC")
_FIELDS: tuple[tuple[str, int, int, Mapping[str, int]], ...] = (
    ("minutes", 0, 59, {}),
    ("hours", 0, 23, {}),
    ("day-of-month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day-of-week", 1, 7, _DAYS),
    ("year", 1970, 2199, {}),
)
_DAYS_AHEAD_MAX = 366 * 5


class BadSchedule(ValueError):
    """An expression that says no time; the text tells why."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`next_after` tells when it is due next."""

    at: datetime | None = None
    every_seconds: int = 0
    cron: tuple[frozenset[int], ...] = ()
    last_day: bool = False  # L as the day of the month
    zone: ZoneInfo = _UTC

    def next_after(self, moment: float, begun: float) -> float | None:
        """The first time after `moment`; None if there is none. Rates count from `begun`."""
        if self.at is not None:
            when = self.at.timestamp()
            return when if when > moment else None
        if self.every_seconds:
            past = max(0, int((moment - begun) // self.every_seconds))
            return begun + (past + 1) * self.every_seconds
        return self._next_by_cron(moment)

    def _next_by_cron(self, moment: float) -> float | None:
        minutes, hours, _, _, _, _ = self.cron
        local = datetime.fromtimestamp(moment, UTC).astimezone(self.zone)
        day = local.replace(hour=0, minute=0, second=0, microsecond=0)
        for _ in range(_DAYS_AHEAD_MAX):
            if self._has_day(day):
                for hour in sorted(hours):
                    for minute in sorted(minutes):
                        found = day.replace(hour=hour, minute=minute).timestamp()
                        if found > moment:
                            return found
            day = (day.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=self.zone)
        return None

    def _has_day(self, day: datetime) -> bool:
        _, _, days, months, weekdays, years = self.cron
        if day.year not in years or day.month not in months:
            return False
        if day.isoweekday() % 7 + 1 not in weekdays:
            return False
        if self.last_day:
            return day.day == calendar.monthrange(day.year, day.month)[1]
        return day.day in days


def parse_schedule(text: str, timezone: str = "UTC") -> Schedule:
    """Raise BadSchedule for what is none of the three forms."""
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as problem:
        raise BadSchedule(f"{timezone} is not a time zone") from problem
    if found := _RATE.fullmatch(text):
        value = int(found[1])
        if not value or (value == 1) == bool(found[3]):
            raise BadSchedule("a rate is a positive number with minute(s), hour(s) or day(s)")
        return Schedule(every_seconds=value * _UNITS[found[2]], zone=zone)
    if found := _AT.fullmatch(text):
        try:
            return Schedule(at=datetime.fromisoformat(found[1]).replace(tzinfo=zone), zone=zone)
        except ValueError as problem:
            raise BadSchedule(str(problem)) from problem
    if found := _CRON.fullmatch(text):
        return _parse_cron(found[1].split(), zone)
    raise BadSchedule("it must be at(...), rate(...) or cron(...)")


def _parse_cron(words: list[str], zone: ZoneInfo) -> Schedule:
    if len(words) == 5:
        words = [*words, "*"]
    if len(words) != len(_FIELDS):
        raise BadSchedule("cron takes the fields minutes hours day-of-month month day-of-week year")
    if (words[2] != "?") == (words[4] != "?") and "*" not in (words[2], words[4]):
        raise BadSchedule("one of day-of-month and day-of-week must be ?")
    last_day = words[2].upper() == "L"
    if last_day:
        words[2] = "*"
    fields = tuple(
        _values(word, name, low, high, names)
        for word, (name, low, high, names) in zip(words, _FIELDS, strict=True)
    )
    return Schedule(cron=fields, last_day=last_day, zone=zone)


def _values(word: str, name: str, low: int, high: int, names: Mapping[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in word.upper().split(","):
        span, slash, step = part.partition("/")
        if span in ("*", "?"):
            first, last = low, high
        else:
            start, dash, end = span.partition("-")
            first = _number(start, name, names)
            last = _number(end, name, names) if dash else (high if slash else first)
        every = _number(step, name, {}) if slash else 1
        if not low <= first <= last <= high or every < 1:
            raise BadSchedule(f"{part} is not within {low} to {high} of {name}")
        found.update(range(first, last + 1, every))
    return frozenset(found)


def _number(text: str, name: str, names: Mapping[str, int]) -> int:
    if text in names:
        return names[text]
    if text.isascii() and text.isdigit() and len(text) <= 4:
        return int(text)
    raise BadSchedule(f"{text or 'nothing'} is not a value of {name} that is supported")
