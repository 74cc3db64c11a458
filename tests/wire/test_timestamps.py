"""Points in time in each of AWS's spellings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from clary.wire.coerce import Malformed
from clary.wire.timestamps import (
    from_epoch,
    from_text,
    to_epoch,
    to_http_date,
    to_iso,
    to_iso_milliseconds,
)

MOMENT = datetime(2024, 5, 1, 10, 0, 0, 250_000, UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-01T10:00:00.25Z",
        "2024-05-01T10:00:00.250000",
        "2024-05-01T12:00:00.250+02:00",
        "20240501T100000.250Z",
        "1714557600.25",
        "1.71455760025e9",
    ],
)
def test_every_spelling_of_a_moment_is_read(text: str) -> None:
    assert from_text(text) == MOMENT


def test_the_date_of_a_header_is_read_and_written() -> None:
    assert from_text("Wed, 01 May 2024 10:00:00 GMT") == MOMENT.replace(microsecond=0)
    assert to_http_date(MOMENT) == "Wed, 01 May 2024 10:00:00 GMT"


@pytest.mark.parametrize("text", ["", "soon", "2024-13-01", "1e300", "-1e15", "9" * 65, "NaN"])
def test_what_is_no_moment_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        from_text(text)


def test_an_epoch_beyond_the_calendar_is_malformed() -> None:
    for seconds in (1e18, float("nan"), float("inf"), 10**30):
        with pytest.raises(Malformed):
            from_epoch(seconds)


def test_a_moment_is_written_with_milliseconds_where_there_are_any() -> None:
    assert to_iso(MOMENT) == "2024-05-01T10:00:00.250Z"
    assert to_iso(1714557600) == "2024-05-01T10:00:00Z"
    assert to_iso_milliseconds(1714557600) == "2024-05-01T10:00:00.000Z"
    assert to_iso(MOMENT.astimezone(timezone(timedelta(hours=5)))) == "2024-05-01T10:00:00.250Z"
    assert to_epoch(MOMENT) == 1714557600.25
    assert repr(to_epoch(1714557600.0)) == "1714557600"


def test_a_moment_without_a_zone_is_a_defect() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        to_epoch(MOMENT.replace(tzinfo=None))
