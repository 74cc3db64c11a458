"""Sessions at the door: opened by a container, kept at its instance, closed."""

from __future__ import annotations

import itertools
from typing import Any

import boto3
import pytest

SESSION = "x-amzn-sagemaker-session-id"


class Stateful:
    """A container that numbers its sessions and knows only its own."""

    numbers = itertools.count()

    def __init__(self, name: str) -> None:
        self.name = name
        self.open: set[str] = set()

    def __call__(self, seen: Any) -> tuple[int, dict[str, str], bytes]:
        session = next((value for name, value in seen.headers if name.lower() == SESSION), "")
        if session == "NEW_SESSION":
            session = f"session-{next(self.numbers)}"
            self.open.add(session)
            told = {"x-amzn-sagemaker-new-session-id": f"{session}; Expires=2030-01-01T00:00:00Z"}
            return 200, told, self.name.encode()
        if session not in self.open:
            return 400, {}, b"no such session"
        if seen.body == b"close":
            self.open.discard(session)
            return 200, {"x-amzn-sagemaker-closed-session-id": session}, self.name.encode()
        return 200, {}, self.name.encode()


@pytest.fixture
def invoke(door, home, serve_unix, set_routes):
    instances = []
    for name in ("one", "two", "three"):
        serve_unix(home / f"{name}.sock", Stateful(name))
        instances.append({"id": name, "socket": str(home / f"{name}.sock")})
    variant = {"name": "A", "weight": 1.0, "instances": instances}
    set_routes(
        {
            "us-east-1/chat": {
                "arn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/chat",
                "account": "123456789012",
                "status": "InService",
                "variants": [variant],
            }
        }
    )
    client = boto3.client(
        "sagemaker-runtime",
        region_name="us-east-1",
        endpoint_url=door.url,
        aws_access_key_id="AKID",
        aws_secret_access_key="secret",
    )
    yield lambda **members: client.invoke_endpoint(EndpointName="chat", **members)
    client.close()


def test_requests_of_a_session_reach_the_instance_that_opened_it(invoke):
    opened = [invoke(SessionId="NEW_SESSION", Body=b"hello") for _ in range(9)]
    places = {answer["NewSessionId"].partition(";")[0]: answer["Body"].read() for answer in opened}
    assert len(places) == 9 and len(set(places.values())) > 1
    for _ in range(3):
        for session, place in places.items():
            assert invoke(SessionId=session, Body=b"again")["Body"].read() == place


def test_a_closed_session_is_told_and_forgotten(invoke):
    session = invoke(SessionId="NEW_SESSION", Body=b"hello")["NewSessionId"].partition(";")[0]
    assert invoke(SessionId=session, Body=b"close")["ClosedSessionId"] == session
    with pytest.raises(Exception, match="no such session"):
        invoke(SessionId=session, Body=b"again")
