"""InvokeEndpoint through a real boto3: answers, errors, choice of variant and instance, metrics."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections import Counter

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from clary.model.errors import AccessDeniedException

ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/iris"


@pytest.fixture
def runtime(door):
    client = boto3.client(
        "sagemaker-runtime",
        region_name="us-east-1",
        endpoint_url=door.url,
        aws_access_key_id="AKID",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


def double(seen):
    return 200, {"content-type": "text/csv; charset=utf-8"}, seen.body * 2


@pytest.fixture
def add_endpoint(home, serve_unix, set_routes):
    """Serve `iris` from model servers; each variant is (name, weight, [answerers])."""
    endpoints = {}

    def add(*variants, name="iris", status="InService", **extra):
        servers = []
        described = []
        for variant, weight, answerers in variants:
            instances = []
            for number, answer in enumerate(answerers):
                path = home / f"{name}-{variant}-{number}.sock"
                servers.append(serve_unix(path, answer))
                instances.append({"id": f"i-{number}", "socket": str(path)})
            described.append(
                {"name": variant, "weight": weight, "instances": instances, "timeout_seconds": 1}
            )
        endpoints[f"us-east-1/{name}"] = {
            "arn": ARN, "account": "123456789012", "status": status, "config": "c",
            "variants": described, "log_group": f"/aws/sagemaker/Endpoints/{name}", **extra,
        }  # fmt: skip
        set_routes(endpoints)
        return servers

    return add


def invoke(runtime, body=b"1", **options):
    """One invocation, its body read so that its connection is free again."""
    result = runtime.invoke_endpoint(EndpointName="iris", Body=body, **options)
    return result["InvokedProductionVariant"], result["Body"].read()


def failure(call, **request):
    with pytest.raises(ClientError) as caught:
        call(**request)
    return caught.value.response


def test_an_invocation_reaches_the_model_and_its_answer_the_client(runtime, door, add_endpoint):
    def answer(seen):
        headers = {
            "content-type": "application/json",
            "X-Amzn-SageMaker-Custom-Attributes": "trace=2",
            "Set-Cookie": "secret=1",
        }
        return 201, headers, b'{"sum": 3}'

    (model,) = add_endpoint(("main", 1.0, [answer]))
    result = runtime.invoke_endpoint(
        EndpointName="iris", Body=b"1,2\n", ContentType="text/csv", Accept="application/json",
        CustomAttributes="trace=1", InferenceId="id-7",
    )  # fmt: skip
    assert result["Body"].read() == b'{"sum": 3}'
    assert result["ContentType"] == "application/json"
    assert result["InvokedProductionVariant"] == "main"
    assert result["CustomAttributes"] == "trace=2"
    assert result["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert result["ResponseMetadata"]["RequestId"]
    assert "set-cookie" not in result["ResponseMetadata"]["HTTPHeaders"]
    (seen,) = model.seen
    assert (seen.method, seen.path, seen.body) == ("POST", "/invocations", b"1,2\n")
    assert seen.header("content-type") == "text/csv"
    assert seen.header("accept") == "application/json"
    assert seen.header("x-amzn-sagemaker-custom-attributes") == "trace=1"
    assert seen.header("x-amzn-sagemaker-inference-id") == "id-7"
    assert seen.header("authorization") is None
    _, action, resource = door.gate.asked[0]
    assert (action, resource) == ("sagemaker:InvokeEndpoint", ARN)


def test_an_unknown_endpoint_is_a_validation_error(runtime, door):
    answer = failure(runtime.invoke_endpoint, EndpointName="nope", Body=b"")
    assert answer["Error"] == {
        "Code": "ValidationError",
        "Message": "Endpoint nope of account 123456789012 not found.",
    }
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert door.gate.asked[0][2].endswith(":endpoint/nope")


def test_an_endpoint_of_another_region_is_not_found(runtime, set_routes, home):
    set_routes({"eu-west-1/iris": {"arn": ARN, "account": "1", "status": "InService"}})
    answer = failure(runtime.invoke_endpoint, EndpointName="iris", Body=b"")
    assert "not found" in answer["Error"]["Message"]


def test_an_endpoint_being_created_is_a_validation_error(runtime, add_endpoint):
    add_endpoint(("main", 1, [double]), status="Creating")
    answer = failure(runtime.invoke_endpoint, EndpointName="iris", Body=b"")
    assert answer["Error"]["Code"] == "ValidationError"
    assert "Creating" in answer["Error"]["Message"]


def test_a_refused_caller_never_reaches_the_model(runtime, door, add_endpoint):
    (model,) = add_endpoint(("main", 1, [double]))
    door.gate.refusal = AccessDeniedException("User: x is not authorized", status=403)
    answer = failure(runtime.invoke_endpoint, EndpointName="iris", Body=b"1")
    assert answer["Error"]["Code"] == "AccessDeniedException"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert model.seen == []


@pytest.mark.parametrize(("status", "kind"), [(400, "client"), (500, "server"), (302, "server")])
def test_an_error_of_the_container_is_a_model_error(runtime, add_endpoint, status, kind):
    add_endpoint(("main", 1, [lambda seen: (status, {}, b"bad row")]))
    answer = failure(runtime.invoke_endpoint, EndpointName="iris", Body=b"1")
    assert answer["Error"]["Code"] == "ModelError"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert answer["OriginalStatusCode"] == status
    assert answer["OriginalMessage"] == "bad row"
    assert answer["LogStreamArn"] == (
        "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/iris"
    )
    assert answer["Error"]["Message"] == (
        f'Received {kind} error ({status}) from primary with message "bad row". See '
        "https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1"
        "#logEventViewer:group=/aws/sagemaker/Endpoints/iris in account 123456789012 for more "
        "information."
    )


def test_a_container_that_does_not_answer_in_time_is_a_model_error(runtime, add_endpoint):
    release = threading.Event()

    def hang(seen):
        release.wait(20)
        return 200, {}, b""

    add_endpoint(("main", 1, [hang]))
    answer = failure(runtime.invoke_endpoint, EndpointName="iris", Body=b"1")
    release.set()
    assert answer["Error"]["Code"] == "ModelError"
    assert answer["Error"]["Message"].startswith(
        "Received server error (0) from primary with message "
        '"Your invocation timed out while waiting for a response from container primary.'
    )


def test_a_container_that_dies_on_a_request_is_a_model_error_and_not_retried(runtime, add_endpoint):
    def die(seen):
        raise ConnectionAbortedError

    servers = add_endpoint(("main", 1, [die, die]))
    answer = failure(runtime.invoke_endpoint, EndpointName="iris", Body=b"1")
    assert answer["OriginalStatusCode"] == 0
    assert sum(len(server.seen) for server in servers) == 1


def test_a_dead_instance_is_passed_over(runtime, add_endpoint):
    dead, alive = add_endpoint(("main", 1, [double, double]))
    dead.stop()
    for _ in range(10):
        result = runtime.invoke_endpoint(EndpointName="iris", Body=b"ab")
        assert result["Body"].read() == b"abab"
    assert len(alive.seen) == 10


def test_an_endpoint_without_a_reachable_instance_is_unavailable(runtime, add_endpoint):
    for server in add_endpoint(("main", 1, [double, double])):
        server.stop()
    answer = failure(runtime.invoke_endpoint, EndpointName="iris", Body=b"1")
    assert answer["Error"]["Code"] == "ServiceUnavailable"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 503


def test_traffic_is_split_by_weight_and_a_target_variant_overrides_it(runtime, add_endpoint):
    add_endpoint(("a", 3.0, [double]), ("b", 1.0, [double]), ("idle", 0.0, [double]))
    split = Counter(invoke(runtime)[0] for _ in range(400))
    assert split["idle"] == 0
    assert 250 < split["a"] < 350
    assert invoke(runtime, TargetVariant="idle")[0] == "idle"
    answer = failure(runtime.invoke_endpoint, EndpointName="iris", Body=b"1", TargetVariant="zz")
    assert answer["Error"]["Message"] == "Variant zz not found for Request"


def test_a_request_goes_to_the_instance_with_the_fewest_in_flight(runtime, add_endpoint):
    release = threading.Event()
    reached = threading.Event()

    def slow_once(seen):
        if seen.body == b"slow":
            reached.set()
            release.wait(0.9)
        return 200, {}, b"done"

    servers = add_endpoint(("main", 1, [slow_once, slow_once]))
    slow = threading.Thread(target=lambda: invoke(runtime, b"slow"))
    slow.start()
    assert reached.wait(20)
    for _ in range(6):
        invoke(runtime, b"quick")
    release.set()
    slow.join(20)
    assert sorted(len(server.seen) for server in servers) == [1, 6]


def test_a_body_over_six_mebibytes_is_refused(runtime, add_endpoint):
    (model,) = add_endpoint(("main", 1, [double]))
    answer = failure(
        runtime.invoke_endpoint, EndpointName="iris", Body=b"x" * (6 * 1024 * 1024 + 1)
    )
    assert answer["Error"]["Code"] == "ValidationError"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert "6291456 bytes" in answer["Error"]["Message"]
    assert model.seen == []


def test_an_answer_over_six_mebibytes_is_a_model_error(runtime, add_endpoint):
    add_endpoint(("main", 1, [lambda seen: (200, {}, b"x" * (6 * 1024 * 1024 + 1))]))
    answer = failure(runtime.invoke_endpoint, EndpointName="iris", Body=b"1")
    assert answer["Error"]["Code"] == "ModelError"
    assert "6291456 bytes" in answer["OriginalMessage"]


def test_a_changed_snapshot_takes_effect_at_once_and_a_broken_one_not(runtime, add_endpoint, home):
    add_endpoint(("old", 1, [double]))
    assert invoke(runtime)[0] == "old"
    add_endpoint(("new", 1, [double]))
    assert invoke(runtime)[0] == "new"
    (home / "run" / "routes.json").write_text('{"endpoints": {"us-east-1/iris": 3}}')
    assert invoke(runtime)[0] == "new"
    (home / "run" / "routes.json").unlink()
    assert invoke(runtime)[0] == "new"


def test_endpoints_answer_while_control_is_down(runtime, add_endpoint, control):
    add_endpoint(("main", 1, [double]))
    control.stop()
    assert invoke(runtime)[1] == b"11"


def test_synchronous_and_asynchronous_invocations_are_not_interchangeable(runtime, add_endpoint):
    add_endpoint(("main", 1, [double]), name="now")
    add_endpoint(("main", 1, [double]), name="later", **{"async": True})
    answer = failure(runtime.invoke_endpoint, EndpointName="later", Body=b"1")
    assert answer["Error"]["Code"] == "ValidationError"
    answer = failure(runtime.invoke_endpoint_async, EndpointName="now", InputLocation="s3://b/k")
    assert answer["Error"]["Code"] == "ValidationError"


def test_a_response_stream_carries_the_parts_of_the_container(runtime, add_endpoint):
    content = b"0123456789" * 300_000
    add_endpoint(("main", 1, [lambda seen: (200, {"content-type": "text/plain"}, content)]))
    answer = runtime.invoke_endpoint_with_response_stream(EndpointName="iris", Body=b"go")
    parts = [event["PayloadPart"]["Bytes"] for event in answer["Body"]]
    assert b"".join(parts) == content
    assert len(parts) > 1
    assert answer["ContentType"] == "text/plain"
    assert answer["InvokedProductionVariant"] == "main"


def test_a_failing_stream_request_is_a_model_error(runtime, add_endpoint):
    add_endpoint(("main", 1, [lambda seen: (500, {}, b"boom")]))
    answer = failure(runtime.invoke_endpoint_with_response_stream, EndpointName="iris", Body=b"go")
    assert answer["Error"]["Code"] == "ModelError"


def test_metrics_reach_control_when_the_door_stops(home, control, start_door, add_endpoint):
    def sometimes(seen):
        return (500 if seen.body == b"bad" else 200), {}, b""

    with start_door() as door:
        add_endpoint(("main", 1, [sometimes, sometimes]))
        client = boto3.client(
            "sagemaker-runtime", region_name="us-east-1", endpoint_url=door.url,
            aws_access_key_id="A", aws_secret_access_key="s",
            config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip
        for body in (b"good", b"good", b"bad"):
            try:
                invoke(client, body)
            except ClientError as problem:
                assert problem.response["Error"]["Code"] == "ModelError"
        client.close()
    posted = [json.loads(seen.body) for seen in control.seen if seen.path == "/_clary/metrics"]
    datums = {datum["metric"]: datum for batch in posted for datum in batch}
    assert datums["Invocations"]["sum"] == 3
    assert datums["Invocations"]["dimensions"] == {"EndpointName": "iris", "VariantName": "main"}
    assert datums["InvocationsPerInstance"]["sum"] == 1.5
    assert (datums["Invocation5XXErrors"]["sum"], datums["Invocation5XXErrors"]["count"]) == (1, 3)
    assert datums["Invocation4XXErrors"]["sum"] == 0
    assert datums["InvocationModelErrors"]["sum"] == 1
    assert datums["ModelLatency"]["unit"] == "Microseconds"
    assert 0 < datums["ModelLatency"]["min"] <= datums["ModelLatency"]["max"]
    assert datums["OverheadLatency"]["count"] == 3


def test_a_stream_tells_how_long_its_first_piece_took(home, control, start_door, add_endpoint):
    with start_door() as door:
        add_endpoint(("main", 1, [double]))
        client = boto3.client(
            "sagemaker-runtime", region_name="us-east-1", endpoint_url=door.url,
            aws_access_key_id="A", aws_secret_access_key="s",
            config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip
        answer = client.invoke_endpoint_with_response_stream(EndpointName="iris", Body=b"7")
        assert b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"]) == b"77"
        client.close()
    posted = [json.loads(seen.body) for seen in control.seen if seen.path == "/_clary/metrics"]
    datums = {datum["metric"]: datum for batch in posted for datum in batch}
    assert datums["MidStreamErrors"]["sum"] == 0
    assert datums["FirstChunkLatency"]["sum"] >= datums["FirstChunkModelLatency"]["sum"] > 0


def test_seven_gigabytes_are_refused_before_they_are_sent(door, runtime, add_endpoint):
    add_endpoint(("main", 1, [double]))
    host, _, port = door.url.removeprefix("http://").partition(":")
    head = (
        "POST /endpoints/iris/invocations HTTP/1.1\r\nhost: x\r\n"
        "authorization: AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/sagemaker/aws4_request, "
        "SignedHeaders=host, Signature=0\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(f"{head}content-length: {7 << 30}\r\n\r\n".encode())
        announced = client.recv(65536)
    assert announced.startswith(b"HTTP/1.1 413 ") and b"ValidationError" in announced
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        for _ in range(32 << 20 >> 16):
            client.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            if select.select([client], [], [], 0)[0]:
                break
        else:
            raise AssertionError("chunks were taken far beyond the limit")
        received = client.recv(65536)
    assert received.startswith(b"HTTP/1.1 413 ") and b"exceeds the limit" in received
    assert invoke(runtime)[1] == b"11"
