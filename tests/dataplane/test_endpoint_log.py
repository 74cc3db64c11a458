"""The door's own lines in an endpoint's log, signed as the endpoint's role."""

from __future__ import annotations

import asyncio
import json

from clary.dataplane import endpoint_log
from clary.dataplane.endpoint_log import EndpointLog
from clary.dataplane.routes import EndpointRoute
from clary.dataplane.upstream import UpstreamFailure

ROUTE = EndpointRoute(
    region="us-east-1", name="iris", arn="arn:endpoint", account="1", status="InService", config="",
    variants=(), log_group="/aws/sagemaker/Endpoints/iris", role="arn:role",
)  # fmt: skip


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


def written(calls):
    async def main():
        journal = EndpointLog(calls)
        journal.write(ROUTE, "data-capture", "the disk is full")
        async with asyncio.timeout(10):
            while journal._tasks:
                await asyncio.sleep(0.001)
        await journal.close()

    asyncio.run(main())
    return [operation for operation, _ in calls.asked]


def test_a_line_makes_its_group_and_stream_where_they_are_missing():
    calls = Calls((400, '{"__type": "ResourceNotFoundException"}'), (200, ""), (200, ""))
    assert written(calls) == ["PutLogEvents", "CreateLogGroup", "CreateLogStream", "PutLogEvents"]
    document = calls.asked[-1][1]
    assert document["logGroupName"] == "/aws/sagemaker/Endpoints/iris"
    assert document["logStreamName"] == "data-capture"
    assert document["logEvents"][0]["message"] == "the disk is full"


def test_a_line_waits_for_control_that_is_away(monkeypatch):
    monkeypatch.setattr(endpoint_log, "PAUSE_SECONDS", 0.001)
    assert written(Calls(UpstreamFailure("away"), (503, ""))) == ["PutLogEvents"] * 3


def test_a_line_that_the_role_may_not_write_goes_to_the_log_of_the_door(caplog):
    assert written(Calls((403, "AccessDeniedException"))) == ["PutLogEvents"]
    assert "the disk is full" in caplog.text and "AccessDenied" in caplog.text
