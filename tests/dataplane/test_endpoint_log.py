"""The door's own lines in an endpoint's log, signed as the endpoint's role, many in one call."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from clary.dataplane import endpoint_log
from clary.dataplane.endpoint_log import EndpointLog
from clary.dataplane.routes import EndpointRoute
from clary.dataplane.upstream import UpstreamFailure

ROUTE = EndpointRoute(
    region="us-east-1", name="iris", arn="arn:endpoint", account="1", status="InService", config="",
    variants=(), log_group="/aws/sagemaker/Endpoints/iris", role="arn:role",
)  # fmt: skip
LINE = (("data-capture", "the disk is full"),)


class Calls:
    """Answers in turn, and remembers what was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def post(self, service, region, headers, body, *, role_arn, work_arn):
        assert (service, region, role_arn, work_arn) == (
            "logs", "us-east-1", "arn:role", "arn:endpoint",
        )  # fmt: skip
        operation = headers["x-amz-target"].partition(".")[2]
        self.asked.append((operation, json.loads(body)))
        answer = self.answers.pop(0) if self.answers else (200, "{}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def lines(self):
        """Stream and messages of each PutLogEvents."""
        return [
            (asked["logStreamName"], [event["message"] for event in asked["logEvents"]])
            for operation, asked in self.asked
            if operation == "PutLogEvents"
        ]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(endpoint_log, "GATHER_SECONDS", 0.001)
    monkeypatch.setattr(endpoint_log, "PAUSE_SECONDS", 0.001)


def written(calls, lines=LINE):
    async def main():
        journal = EndpointLog(calls)
        for stream, message in lines:
            journal.write(ROUTE, stream, message)
        async with asyncio.timeout(10):
            while journal._tasks:
                await asyncio.sleep(0.001)
        await journal.close()
        assert (journal._waiting_bytes, journal._streams) == (0, {})

    asyncio.run(main())
    return [operation for operation, _ in calls.asked]


def test_a_line_makes_its_group_and_stream_where_they_are_missing():
    calls = Calls((400, '{"__type": "ResourceNotFoundException"}'), (200, ""), (200, ""))
    assert written(calls) == ["PutLogEvents", "CreateLogGroup", "CreateLogStream", "PutLogEvents"]
    document = calls.asked[-1][1]
    assert document["logGroupName"] == "/aws/sagemaker/Endpoints/iris"
    assert document["logStreamName"] == "data-capture"
    assert document["logEvents"][0]["message"] == "the disk is full"


def test_a_group_that_is_there_already_is_no_obstacle_to_a_stream():
    exists = (400, '{"__type": "ResourceAlreadyExistsException"}')
    calls = Calls((400, "ResourceNotFoundException"), exists, exists)
    assert written(calls)[-1] == "PutLogEvents"


def test_a_stream_that_the_role_may_not_make_is_tried_once(caplog):
    calls = Calls((400, "ResourceNotFoundException"), (400, "AccessDeniedException"))
    assert written(calls) == ["PutLogEvents", "CreateLogGroup"]
    assert "the disk is full" in caplog.text


def test_a_line_waits_for_control_that_is_away():
    assert written(Calls(UpstreamFailure("away"), (503, ""))) == ["PutLogEvents"] * 3


def test_a_line_that_the_role_may_not_write_goes_to_the_log_of_the_door(caplog):
    assert written(Calls((403, "AccessDeniedException"))) == ["PutLogEvents"]
    assert "the disk is full" in caplog.text and "AccessDenied" in caplog.text


def test_lines_of_one_stream_are_written_together_and_in_their_order():
    calls = Calls()
    written(calls, [("main/errors", "one"), ("data-capture", "two"), ("main/errors", "three")])
    assert calls.lines() == [("main/errors", ["one", "three"]), ("data-capture", ["two"])]


def test_a_flood_costs_one_call_and_says_how_much_was_left_out():
    calls = Calls()
    written(calls, [("main/errors", f"line {number}") for number in range(2500)])
    ((_, lines),) = calls.lines()
    assert lines[:2] == ["line 0", "line 1"]
    assert lines[999:] == ["line 999", "1500 more lines were left out"]


def test_long_lines_never_make_a_call_larger_than_cloudwatch_takes():
    calls = Calls()
    written(calls, [("main/errors", "é" * 100_000)] * 8)
    ((_, lines),) = calls.lines()
    assert len(lines) == 5
    assert lines[-1] == "4 more lines were left out"


def test_all_streams_together_keep_to_one_bound(monkeypatch):
    monkeypatch.setattr(endpoint_log, "WAITING_BYTES_MAX", 100)
    calls = Calls()
    written(calls, [("a", "x" * 60), ("b", "y" * 60)])
    assert calls.lines() == [("a", ["x" * 60]), ("b", ["1 more lines were left out"])]


def test_what_waits_is_written_when_the_door_closes(monkeypatch):
    monkeypatch.setattr(endpoint_log, "GATHER_SECONDS", 60)
    calls: Any = Calls()

    async def main():
        journal = EndpointLog(calls)
        journal.write(ROUTE, "main/errors", "the last words")
        await journal.close()
        journal.write(ROUTE, "main/errors", "too late")

    asyncio.run(main())
    assert calls.lines() == [("main/errors", ["the last words"])]


def test_closing_does_not_wait_for_control_that_is_away(monkeypatch):
    monkeypatch.setattr(endpoint_log, "PAUSE_SECONDS", 60)
    calls: Any = Calls(*[UpstreamFailure("away")] * 9)

    async def main():
        journal = EndpointLog(calls)
        journal.write(ROUTE, "main/errors", "nobody hears")
        async with asyncio.timeout(10):
            while not calls.asked:
                await asyncio.sleep(0.001)
        await journal.close()

    asyncio.run(main())
    assert len(calls.asked) <= 2
