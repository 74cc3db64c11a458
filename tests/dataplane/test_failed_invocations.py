"""A failed invocation stands in its endpoint's log under the request id that the client was given."""

from __future__ import annotations

import contextlib
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

GROUP = "/aws/sagemaker/Endpoints/iris"
ROUTE = {"arn": "arn:e", "account": "1", "status": "InService", "role": "arn:r"}


class Roles:
    def credentials(self, role_arn, work_arn):
        return {"AccessKeyId": "AKID", "SecretAccessKey": "secret", "Token": "token"}

    def permits(self, role_arn, action, resource):
        return True


@pytest.fixture
def failing(home, start_door, serve_unix, set_routes, control):
    """Run calls against endpoint `iris`; what the clients were given, and the log that control got."""

    def run(calls, answer, instances=(("", ""),), **variant):
        entries = []
        for number, (log_id, container) in enumerate(instances):
            path = str(serve_unix(home / f"model-{number}.sock", answer).path)
            entry = {"id": f"main-{number}", "socket": path, "log_id": log_id}
            if container:
                entry["containers"] = [{"name": container, "socket": path}]
            entries.append(entry)
        variant = {
            "name": "main", "weight": 1, "instances": entries, "timeout_seconds": 0.3, **variant,
        }  # fmt: skip
        set_routes({"us-east-1/iris": {**ROUTE, "variants": [variant]}})
        with (
            start_door(roles=Roles()) as door,
            contextlib.closing(connect(door)) as client,
            ThreadPoolExecutor(8) as pool,
        ):
            given = list(pool.map(lambda call: call(client), calls))
        return given, _lines(control)

    return run


def connect(door):
    return boto3.client(
        "sagemaker-runtime", region_name="us-east-1", endpoint_url=door.url,
        aws_access_key_id="A", aws_secret_access_key="s",
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=16),
    )  # fmt: skip


def _lines(control):
    """By stream, the lines of each PutLogEvents."""
    found = {}
    for seen in control.seen:
        if seen.header("x-amz-target") == "Logs_20140328.PutLogEvents":
            asked = json.loads(seen.body)
            assert asked["logGroupName"] == GROUP
            lines = [event["message"] for event in asked["logEvents"]]
            found.setdefault(asked["logStreamName"], []).append(lines)
    return found


def request_id(problem: Any) -> str:
    return problem.response["ResponseMetadata"]["RequestId"]


def whole(client):
    with pytest.raises(ClientError) as caught:
        client.invoke_endpoint(EndpointName="iris", Body=b"1")
    return request_id(caught.value)


def streamed(client):
    with pytest.raises(ClientError) as caught:
        client.invoke_endpoint_with_response_stream(EndpointName="iris", Body=b"1")
    return request_id(caught.value)


@pytest.mark.parametrize("call", [whole, streamed])
def test_an_error_of_the_container_is_found_by_the_request_id(failing, call):
    (given,), lines = failing([call], lambda seen: (500, {}, b"a\nb" + b"x" * 2000), [("i-1", "")])
    assert lines == {
        "main/i-1": [[f"RequestId: {given} primary answered 500: a b" + "x" * 997]],
    }


def test_a_lost_connection_is_told_where_the_snapshot_names_no_stream(failing):
    def die(seen):
        raise ConnectionAbortedError

    (given,), lines = failing([whole], die)
    (((line,),),) = lines.values()
    assert list(lines) == ["main/errors"]
    assert line.startswith(f"RequestId: {given} primary failed: The connection to container")


def test_one_of_several_containers_has_the_line_in_its_own_stream(failing):
    (given,), lines = failing(
        [whole], lambda seen: (400, {}, b"bad row"), [("i-1", "scale")], execution="Serial"
    )
    assert lines == {"main/i-1/scale": [[f"RequestId: {given} scale answered 400: bad row"]]}


def test_a_stream_that_breaks_off_is_told_under_the_id_that_was_sent_before(
    home, start_door, set_routes, control
):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(home / "broken.sock"))
    listener.listen(1)

    def answer():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")

    with listener, start_door(roles=Roles()) as door, ThreadPoolExecutor(1) as pool:
        pool.submit(answer)
        entry = {"id": "i", "socket": str(home / "broken.sock"), "log_id": "i-1"}
        set_routes(
            {"us-east-1/iris": {**ROUTE, "variants": [{"name": "main", "instances": [entry]}]}}
        )
        with contextlib.closing(connect(door)) as client:
            given = client.invoke_endpoint_with_response_stream(EndpointName="iris", Body=b"1")
            with pytest.raises(EventStreamError, match="ModelStreamError"):
                list(given["Body"])
            given["Body"].close()
    request = given["ResponseMetadata"]["RequestId"]
    assert _lines(control) == {
        "main/i-1": [[f"RequestId: {request} primary answered 500: StreamBroken"]]
    }


def test_many_failures_are_written_in_few_calls(failing):
    given, lines = failing([whole] * 40, lambda seen: (500, {}, b"no"), [("i-1", "")])
    batches = lines["main/i-1"]
    assert sorted(line.split()[1] for batch in batches for line in batch) == sorted(given)
    assert len(batches) < 10


def test_a_refused_request_is_no_matter_of_the_log(failing):
    def unknown(client):
        with pytest.raises(ClientError):
            client.invoke_endpoint(EndpointName="iris", Body=b"1", TargetVariant="other")

    assert failing([unknown], lambda seen: (200, {}, b"")) == ([None], {})
