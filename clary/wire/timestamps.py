"""Points in time as AWS writes them: epoch seconds, ISO 8601 and the dates of HTTP headers."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from clary.wire.coerce import Malformed

NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d{1,3})?")


def from_epoch(seconds: float) -> datetime:
    """An aware datetime; Malformed where the calendar has no such second."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as problem:
        raise Malformed(f"Timestamp {seconds!r:.40} is out of range") from problem


def from_text(text: str) -> datetime:
    """Read any of the three spellings: clients choose freely, whatever the model says."""
    text = text.strip()
    if len(text) > 64:
        raise Malformed("Timestamp is too long")
    if NUMBER.fullmatch(text):
        return from_epoch(float(text))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            found = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError) as problem:
            raise Malformed(f"Timestamp {text!r} is not a date") from problem
    try:
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as problem:
        raise Malformed(f"Timestamp {text!r} is out of range") from problem


def moment(value: object) -> datetime:
    """What a handler returned, as an aware datetime; ValueError for anything but a moment."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"timestamp {value!r} has no time zone")
        return value.astimezone(UTC)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    raise ValueError(f"{value!r} is not a timestamp")


def to_epoch(value: object) -> float:
    """Epoch seconds with AWS's precision of one millisecond; whole seconds stay integers."""
    if isinstance(value, datetime):
        seconds = moment(value).timestamp()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value
    else:
        raise ValueError(f"{value!r} is not a timestamp")
    rounded = round(seconds, 3)
    return int(rounded) if rounded == int(rounded) else rounded


def to_iso(value: object) -> str:
    """`2024-05-01T10:00:00Z`, with milliseconds where there are any."""
    found = moment(value)
    return found.strftime("%Y-%m-%dT%H:%M:%S") + (
        f".{found.microsecond // 1000:03d}Z" if found.microsecond >= 1000 else "Z"
    )


def to_iso_milliseconds(value: object) -> str:
    """As S3 writes it: always three digits after the second."""
    found = moment(value)
    return found.strftime("%Y-%m-%dT%H:%M:%S") + f".{found.microsecond // 1000:03d}Z"


def to_http_date(value: object) -> str:
    return format_datetime(moment(value).replace(microsecond=0), usegmt=True)


def to_epoch_text(value: object) -> str:
    return str(to_epoch(value))


FORMATS = {
    "iso8601": to_iso,
    "rfc822": to_http_date,
    "unixtimestamp": to_epoch_text,
}
