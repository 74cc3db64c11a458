"""at, rate and cron expressions, and when they are due."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from clary.companions.schedule_expressions import BadSchedule, parse_schedule


def moment(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


NOW = moment("2026-01-30T10:17:00")  # a Friday


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("at(2026-02-01T08:00:00)", "2026-02-01T08:00:00"),
        ("cron(0 8 ? * MON-FRI *)", "2026-02-02T08:00:00"),
        ("cron(15/20 10 * * ? *)", "2026-01-30T10:35:00"),
        ("cron(0 0 1 1 ? 2028)", "2028-01-01T00:00:00"),
        ("cron(30 9 L * ? *)", "2026-01-31T09:30:00"),
        ("cron(0 12 ? FEB 1,7 *)", "2026-02-01T12:00:00"),
    ],
)
def test_a_schedule_is_due_at_the_next_time_that_fits(text, due):
    assert parse_schedule(text).next_after(NOW, NOW) == moment(due)


def test_a_rate_counts_from_its_beginning():
    schedule = parse_schedule("rate(5 minutes)")
    assert schedule.next_after(NOW + 1, NOW - 60) == NOW + 240
    assert parse_schedule("rate(1 day)").next_after(NOW, NOW) == NOW + 86_400


def test_a_time_zone_keeps_the_hour_of_its_clocks():
    schedule = parse_schedule("cron(0 8 * * ? *)", "Europe/Berlin")
    winter, summer = moment("2026-03-28T07:00:00"), moment("2026-03-29T06:00:00")
    assert schedule.next_after(winter - 1, 0) == winter
    assert schedule.next_after(winter, 0) == summer


def test_what_is_over_is_never_due_again():
    assert parse_schedule("at(2020-01-01T00:00:00)").next_after(NOW, NOW) is None
    assert parse_schedule("cron(0 0 * * ? 2025)").next_after(NOW, NOW) is None


@pytest.mark.parametrize(
    "text",
    [
        *("every day", "rate(0 minutes)", "rate(1 minutes)", "rate(2 minute)"),
        *("cron(61 * * * ? *)", "cron(0 0 1 * MON *)", "cron(* *)", "at(2026-13-01T00:00:00)"),
        *("cron(0 0 ? * MON#2 *)", "cron(0 0/0 * * ? *)", "cron(0 20-8 * * ? *)"),
    ],
)
def test_an_expression_that_says_no_time_is_refused(text):
    with pytest.raises(BadSchedule):
        parse_schedule(text)


def test_an_unknown_time_zone_is_refused():
    with pytest.raises(BadSchedule, match="Mars"):
        parse_schedule("rate(5 minutes)", "Mars/Base")
