"""Asynchronous invocations through a running door: from the 202 to the object, the topic and the metrics."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections import Counter
from urllib.parse import parse_qs

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from clary.dataplane import async_invocations
from clary.dataplane.async_queue import AsyncQueue, queue_folder
from clary.dataplane.async_requests import AsyncRequest
from clary.store.objects import Objects

ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/later"
ROLE = "arn:aws:iam::123456789012:role/Worker"
TOPIC = "arn:aws:sns:us-east-1:123456789012:{}"
CONFIG = {
    "OutputConfig": {"S3OutputPath": "s3://work/out/", "S3FailurePath": "s3://work/failed"},
    "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 2},
}


class Roles:
    """Stands for the identity layer: who may what, and keys to sign with."""

    def __init__(self):
        self.denied = set()

    def credentials(self, role_arn, work_arn):
        return {"AccessKeyId": "ASIAX", "SecretAccessKey": "s", "Token": "t"}

    def permits(self, role_arn, action, resource):
        assert role_arn == ROLE
        return (action, resource) not in self.denied


@pytest.fixture
def store(home):
    store = Objects(home / "objects")
    store.create_bucket("work")
    return store


@pytest.fixture
def roles():
    return Roles()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(async_invocations, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(async_invocations, "TELL_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(async_invocations, "GAUGE_SECONDS", 0.2)
    monkeypatch.setattr(async_invocations, "LOOK_SECONDS", 0.1)


@pytest.fixture
def add_endpoint(home, serve_unix, set_routes):
    def add(*answerers, config=CONFIG, number="1", served=True):
        instances = []
        for index, answer in enumerate(answerers):
            path = home / f"{number}-{index}.sock"
            if served:
                serve_unix(path, answer)
            instances.append({"id": f"i-{index}", "socket": str(path)})
        variant = {"name": "main", "weight": 1, "instances": instances}
        route = {
            "arn": ARN, "account": "123456789012", "status": "InService", "variants": [variant],
            "async": config, "role": ROLE, "id": number,
        }  # fmt: skip
        set_routes({"us-east-1/later": route})
        return [home / f"{number}-{index}.sock" for index in range(len(answerers))]

    return add


@pytest.fixture
def invoke():
    clients = []

    def call(door, **options):
        client = boto3.client(
            "sagemaker-runtime", region_name="us-east-1", endpoint_url=door.url,
            aws_access_key_id="A", aws_secret_access_key="s",
            config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip
        clients.append(client)
        return client.invoke_endpoint_async(EndpointName="later", **options)

    yield call
    for client in clients:
        client.close()


def double(seen):
    return 200, {"content-type": "text/csv; charset=utf-8"}, seen.body * 2


def place(uri):
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def posted(control):
    return [
        datum
        for seen in control.seen
        if seen.path == "/_clary/metrics"
        for datum in json.loads(seen.body)
    ]


def published(control):
    told = []
    for seen in control.seen:
        if seen.path == "/" and b"Action=Publish" in seen.body:
            fields = parse_qs(seen.body.decode())
            told.append((fields["TopicArn"][0], json.loads(fields["Message"][0]), seen))
    return told


def written(control):
    """What the log of the endpoint was told: the messages by group and stream."""
    found = {}
    for seen in control.seen:
        if seen.header("x-amz-target") == "Logs_20140328.PutLogEvents":
            asked = json.loads(seen.body)
            key = asked["logGroupName"], asked["logStreamName"]
            found.setdefault(key, []).extend(event["message"] for event in asked["logEvents"])
    return found


def test_the_log_of_the_endpoint_tells_each_end_by_inference_id_and_request_id(
    start_door, control, store, roles, add_endpoint, invoke, wait_until
):
    add_endpoint(
        lambda seen: (500, {}, b"no such\ncolumn") if seen.body == b"bad" else double(seen)
    )
    with start_door(store=store, roles=roles) as door:
        bad = invoke(door, Body=b"bad", InferenceId="n-1")
        missing = invoke(door, InputLocation="s3://work/in/none", InferenceId="n-2")
        good = invoke(door, Body=b"ok", InferenceId="n-3")
        wait_until(lambda: sum(map(len, written(control).values())) == 3)
    lines = {}
    for (group, stream), messages in written(control).items():
        assert (group, stream) == ("/aws/sagemaker/Endpoints/later", "main/i-0/data-log")
        lines |= {message.split("] [")[1][:3]: message for message in messages}
    numbers = [one["ResponseMetadata"]["RequestId"] for one in (bad, missing, good)]
    assert all(
        lines[name].endswith(f" RequestId: {number}")
        for name, number in zip(("n-1", "n-2", "n-3"), numbers, strict=True)
    )
    assert 'Received server error (500) from primary with message "no such column".' in lines["n-1"]
    assert bad["FailureLocation"] in lines["n-1"]
    assert "Could not download s3://work/in/none: NoSuchKey" in lines["n-2"]
    assert "Inference request succeeded. ModelLatency: " in lines["n-3"]


def test_a_request_becomes_an_object_at_the_announced_place(
    start_door, control, store, roles, add_endpoint, invoke, wait_until
):
    seen_by_model = []

    def answer(seen):
        seen_by_model.append(seen)
        return double(seen)

    add_endpoint(answer)
    store.put("work", "in/1.csv", b"1,2\n")
    with start_door(store=store, roles=roles) as door:
        result = invoke(
            door, InputLocation="s3://work/in/1.csv", ContentType="text/csv", InferenceId="n-1",
            Accept="text/csv", CustomAttributes="a=b",
        )  # fmt: skip
        assert result["ResponseMetadata"]["HTTPStatusCode"] == 202
        assert result["InferenceId"] == "n-1"
        assert result["OutputLocation"].startswith("s3://work/out/")
        assert result["OutputLocation"].endswith(".out")
        assert result["FailureLocation"].startswith("s3://work/failed/later/")
        assert result["FailureLocation"].endswith("-error.out")
        wait_until(lambda: store.head(*place(result["OutputLocation"])))
    info = store.head(*place(result["OutputLocation"]))
    assert store.read(info.bucket, info.key) == b"1,2\n1,2\n"
    assert info.content_type == "text/csv; charset=utf-8"
    (seen,) = seen_by_model
    assert (seen.method, seen.path) == ("POST", "/invocations")
    assert seen.header("content-type") == "text/csv"
    assert seen.header("accept") == "text/csv"
    assert seen.header("x-amzn-sagemaker-custom-attributes") == "a=b"
    assert seen.header("x-amzn-sagemaker-inference-id") == "n-1"
    metrics = {datum["metric"]: datum for datum in posted(control)}
    assert metrics["InvocationsProcesssed"]["sum"] == 1
    assert metrics["InvocationsProcesssed"]["dimensions"] == {
        "EndpointName": "later", "VariantName": "main",
    }  # fmt: skip
    assert metrics["TotalProcessingTime"]["unit"] == "Milliseconds"
    assert "Invocations" not in metrics


def test_a_payload_may_come_with_the_request_and_the_result_may_be_named(
    start_door, control, store, roles, add_endpoint, invoke, wait_until
):
    add_endpoint(double)
    with start_door(store=store, roles=roles) as door:
        result = invoke(door, Body=b"ab", Filename="mine.csv", S3OutputPathExtension="team/a")
        assert result["OutputLocation"] == "s3://work/out/team/a/mine.csv"
        wait_until(lambda: store.head("work", "out/team/a/mine.csv"))
    assert store.read("work", "out/team/a/mine.csv") == b"abab"


def test_megabytes_stream_through(
    start_door, control, store, roles, add_endpoint, invoke, wait_until
):
    add_endpoint(double)
    payload = bytes(range(256)) * 4096 * 12
    store.put("work", "in/large", payload)
    with start_door(store=store, roles=roles) as door:
        result = invoke(door, InputLocation="s3://work/in/large")
        wait_until(lambda: store.head(*place(result["OutputLocation"])), 30)
    assert store.read(*place(result["OutputLocation"])) == payload * 2


def test_the_container_s_error_is_the_failure_object(
    start_door, control, store, roles, add_endpoint, invoke, wait_until
):
    config = {
        **CONFIG,
        "OutputConfig": {
            **CONFIG["OutputConfig"],
            "NotificationConfig": {
                "SuccessTopic": TOPIC.format("good"),
                "ErrorTopic": TOPIC.format("bad"),
                "IncludeInferenceResponseIn": ["SUCCESS_NOTIFICATION_TOPIC"],
            },
        },
    }
    add_endpoint(
        lambda seen: (400, {}, b"no such column") if seen.body == b"bad" else double(seen),
        config=config,
    )
    with start_door(store=store, roles=roles) as door:
        bad = invoke(door, Body=b"bad", ContentType="text/csv", InferenceId="n-1")
        good = invoke(door, Body=b"ok", InferenceId="n-2")
        wait_until(lambda: len(published(control)) == 2)
        wait_until(lambda: store.head(*place(bad["FailureLocation"])))
    assert store.read(*place(bad["FailureLocation"])) == b"no such column"
    assert store.head(*place(bad["OutputLocation"])) is None
    told = {document["inferenceId"]: (topic, document) for topic, document, _ in published(control)}
    topic, failed = told["n-1"]
    assert topic == TOPIC.format("bad")
    assert failed["invocationStatus"] == "Failed"
    assert failed["failureReason"] == (
        'Received client error (400) from primary with message "no such column".'
    )
    assert failed["requestParameters"] == {"endpointName": "later", "contentType": "text/csv"}
    assert failed["responseParameters"]["failureLocation"] == bad["FailureLocation"]
    assert "responseBody" not in failed
    topic, done = told["n-2"]
    assert topic == TOPIC.format("good")
    assert (done["invocationStatus"], done["eventName"]) == ("Completed", "InferenceResult")
    assert (done["eventSource"], done["eventVersion"]) == ("aws:sagemaker", "1.0")
    assert done["responseParameters"] == {
        "contentType": "text/csv; charset=utf-8", "outputLocation": good["OutputLocation"],
    }  # fmt: skip
    assert done["responseBody"]["content"] == "okok"
    _, _, request = published(control)[0]
    assert "Credential=ASIAX/" in request.header("authorization")
    assert "/us-east-1/sns/aws4_request" in request.header("authorization")
    metrics = Counter(datum["metric"] for datum in posted(control))
    assert metrics["InvocationFailures"] == 1


def test_what_cannot_be_fetched_or_is_not_the_role_s_to_read_fails(
    start_door, control, store, roles, add_endpoint, invoke, wait_until
):
    add_endpoint(double)
    store.put("work", "secret", b"1")
    roles.denied.add(("s3:GetObject", "arn:aws:s3:::work/secret"))
    with start_door(store=store, roles=roles) as door:
        missing = invoke(door, InputLocation="s3://work/in/none")
        secret = invoke(door, InputLocation="s3://work/secret")
        for one in (missing, secret):
            wait_until(lambda one=one: store.head(*place(one["FailureLocation"])))
    assert b"NoSuchKey" in store.read(*place(missing["FailureLocation"]))
    assert b"is not authorized to perform: s3:GetObject" in store.read(
        *place(secret["FailureLocation"])
    )


def test_no_more_run_at_once_than_was_asked_for_and_the_oldest_go_first(
    start_door, control, store, roles, add_endpoint, invoke, wait_until
):
    running, most, order = [], [], []
    guard = threading.Lock()

    def slow(seen):
        with guard:
            running.append(seen.body)
            order.append(seen.body)
            most.append(len(running))
        threading.Event().wait(0.05)
        with guard:
            running.remove(seen.body)
        return 200, {}, b""

    add_endpoint(slow)
    with start_door(store=store, roles=roles) as door:
        results = [invoke(door, Body=b"%d" % number) for number in range(8)]
        wait_until(lambda: all(store.head(*place(one["OutputLocation"])) for one in results))
    assert max(most) == 2
    assert sorted(order[:2]) == [b"0", b"1"]
    assert sorted(order[-2:]) == [b"6", b"7"]


def test_requests_wait_for_an_instance_and_expire_if_none_comes(
    start_door, control, store, roles, add_endpoint, invoke, wait_until, home, serve_unix
):
    (socket,) = add_endpoint(double, served=False)
    queue = AsyncQueue(queue_folder(home / "async" / "queues", "us-east-1", "later", "1"))
    old = AsyncRequest(
        id="00000000-0000-4000-8000-000000000000", endpoint="later", input="", inline="eA==",
        output="s3://work/out/old.out", failure="s3://work/failed/old", received=time.time() - 90,
        ttl_seconds=60, timeout_seconds=60, inference_id="old", headers={},
    )  # fmt: skip
    queue.put(old)
    with start_door(store=store, roles=roles) as door:
        result = invoke(door, Body=b"ab")
        wait_until(lambda: store.head("work", "failed/old"))
        assert store.head(*place(result["OutputLocation"])) is None
        serve_unix(socket, double)
        wait_until(lambda: store.head(*place(result["OutputLocation"])))
    assert b"expired" in store.read("work", "failed/old")
    metrics = {datum["metric"]: datum for datum in reversed(posted(control))}
    assert metrics["ApproximateBacklogSize"]["dimensions"] == {"EndpointName": "later"}
    assert metrics["ApproximateBacklogSize"]["max"] >= 1
    assert metrics["ApproximateBacklogSizePerInstance"]["max"] >= 1
    assert metrics["ApproximateAgeOfOldestRequest"]["max"] > 60
    assert metrics["HasBacklogWithoutCapacity"]["max"] == 0
    assert metrics["ExpiredRequests"]["sum"] == 1


def test_the_queue_outlives_the_door(
    start_door, control, store, roles, add_endpoint, invoke, wait_until, home
):
    add_endpoint(double, served=False)
    with start_door(store=store, roles=roles) as door:
        results = [invoke(door, Body=b"%d" % number) for number in range(3)]
    folder = queue_folder(home / "async" / "queues", "us-east-1", "later", "1")
    waiting = sorted((folder / "waiting").iterdir())
    assert len(waiting) == 3
    # One was claimed by a process that was killed.
    waiting[0].rename(folder / "running" / waiting[0].name)
    add_endpoint(double)
    with start_door(store=store, roles=roles):
        wait_until(lambda: all(store.head(*place(one["OutputLocation"])) for one in results))
        wait_until(lambda: not any((folder / "running").iterdir()))
    assert not any((folder / "waiting").iterdir())


def test_a_notification_waits_until_control_is_there(
    start_door, control, store, roles, add_endpoint, invoke, wait_until, serve_unix
):
    topics = {"SuccessTopic": TOPIC.format("good")}
    output = {**CONFIG["OutputConfig"], "NotificationConfig": topics}
    add_endpoint(double, config={**CONFIG, "OutputConfig": output})
    with start_door(store=store, roles=roles) as door:
        control.stop()
        result = invoke(door, Body=b"ab")
        wait_until(lambda: store.head(*place(result["OutputLocation"])))
        later = serve_unix(control.path)
        wait_until(lambda: published(later))
    assert published(later)[0][1]["inferenceId"] == result["InferenceId"]


def test_an_invocation_that_takes_too_long_fails(
    start_door, control, store, roles, add_endpoint, invoke, wait_until
):
    release = threading.Event()

    def hang(seen):
        release.wait(20)
        return 200, {}, b""

    add_endpoint(hang)
    with start_door(store=store, roles=roles) as door:
        result = invoke(door, Body=b"ab", InvocationTimeoutSeconds=1)
        wait_until(lambda: store.head(*place(result["FailureLocation"])))
        release.set()
    assert b"timed out after 1 seconds" in store.read(*place(result["FailureLocation"]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "InputLocation or a Body"),
        ({"InputLocation": "s3://work/a", "Body": b"b"}, "not both"),
        ({"Body": b"x" * 128_001}, "at most 128000 bytes"),
        ({"Body": b"x", "RequestTTLSeconds": 59}, "between 60 and 21600"),
        ({"Body": b"x", "InvocationTimeoutSeconds": 3601}, "between 1 and 3600"),
        ({"Body": b"x", "Filename": "../../etc"}, "Filename"),
        ({"Body": b"x", "S3OutputPathExtension": "s3://other/bucket"}, "S3OutputPathExtension"),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    start_door, control, store, roles, add_endpoint, invoke, options, words, monkeypatch
):
    monkeypatch.setattr("botocore.validate.ParamValidator.validate", lambda *_: _NoErrors())
    add_endpoint(double)
    with start_door(store=store, roles=roles) as door, pytest.raises(ClientError) as caught:
        invoke(door, **options)
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    assert words in caught.value.response["Error"]["Message"]


class _NoErrors:
    def has_errors(self):
        return False


def test_the_queue_of_a_deleted_endpoint_goes_and_a_new_one_starts_empty(
    start_door, control, store, roles, add_endpoint, invoke, wait_until, home, monkeypatch
):
    monkeypatch.setattr(async_invocations, "GONE_SECONDS", 0.1)
    add_endpoint(double, served=False)
    with start_door(store=store, roles=roles) as door:
        first = invoke(door, Body=b"1")
        add_endpoint(double, number="2")
        second = invoke(door, Body=b"2")
        wait_until(lambda: store.head(*place(second["OutputLocation"])))
        folder = queue_folder(home / "async" / "queues", "us-east-1", "later", "1")
        wait_until(lambda: not folder.exists())
    assert store.head(*place(first["OutputLocation"])) is None


def test_a_pipeline_hands_each_answer_on_and_an_error_names_its_container(
    home, start_door, store, roles, serve_unix, set_routes, invoke, wait_until
):
    def first(seen):
        assert not seen.header("accept")
        return 200, {"content-type": "application/json"}, b"[" + seen.body + b"]"

    def second(seen):
        if b"bad" in seen.body:
            return 400, {}, b"no such row"
        return (
            200,
            {"content-type": seen.header("accept")},
            seen.header("content-type").encode() + seen.body,
        )

    for name, answer in (("one", first), ("two", second)):
        serve_unix(home / f"{name}.sock", answer)
    containers = [{"name": name, "socket": str(home / f"{name}.sock")} for name in ("one", "two")]
    instance = {"id": "i", "socket": str(home / "one.sock"), "containers": containers}
    variant = {"name": "main", "weight": 1, "instances": [instance], "execution": "Serial"}
    route = {
        "arn": ARN, "account": "123456789012", "status": "InService", "variants": [variant],
        "async": CONFIG, "role": ROLE, "id": "1",
    }  # fmt: skip
    set_routes({"us-east-1/later": route})
    with start_door(store=store, roles=roles) as door:
        good = invoke(door, Body=b"7", ContentType="text/csv", Accept="text/plain")
        bad = invoke(door, Body=b"bad", ContentType="text/csv", Accept="text/plain")
        wait_until(lambda: store.head(*place(good["OutputLocation"])))
        wait_until(lambda: store.head(*place(bad["FailureLocation"])))
    assert store.read(*place(good["OutputLocation"])) == b"application/json[7]"
    assert store.head(*place(good["OutputLocation"])).content_type == "text/plain"
    assert store.read(*place(bad["FailureLocation"])) == b"no such row"


def test_a_variant_without_weight_runs_nothing(
    home, start_door, store, roles, serve_unix, set_routes, invoke, wait_until
):
    asked = []
    variants = []
    for name, weight in (("off", 0), ("on", 1)):
        serve_unix(
            home / f"{name}.sock", lambda seen, name=name: asked.append(name) or double(seen)
        )
        instance = {"id": name, "socket": str(home / f"{name}.sock")}
        variants.append({"name": name, "weight": weight, "instances": [instance]})
    route = {
        "arn": ARN, "account": "123456789012", "status": "InService", "variants": variants,
        "async": CONFIG, "role": ROLE, "id": "1",
    }  # fmt: skip
    set_routes({"us-east-1/later": route})
    with start_door(store=store, roles=roles) as door:
        results = [invoke(door, Body=b"1") for _ in range(3)]
        for one in results:
            wait_until(lambda one=one: store.head(*place(one["OutputLocation"])))
    assert asked == ["on"] * 3


def test_models_that_a_request_cannot_name_are_refused(
    start_door, store, add_endpoint, set_routes, invoke
):
    variant = {
        "name": "main", "weight": 1, "instances": [],
        "multi_model": {"prefix": "s3://work/models/", "cached": True},
    }  # fmt: skip
    route = {
        "arn": ARN, "account": "123456789012", "status": "InService", "variants": [variant],
        "async": CONFIG, "role": ROLE, "id": "1",
    }  # fmt: skip
    set_routes({"us-east-1/later": route})
    with start_door(store=store) as door, pytest.raises(ClientError, match="several models"):
        invoke(door, Body=b"1")


def test_an_answer_that_the_full_disk_cannot_take_fails_and_says_so(
    start_door, store, roles, add_endpoint, invoke, wait_until, monkeypatch
):
    def full(self, pieces):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "writelines", full)
    add_endpoint(double)
    with start_door(store=store, roles=roles) as door:
        told = invoke(door, Body=b"1")
        wait_until(lambda: store.head(*place(told["FailureLocation"])))
    reason = store.read(*place(told["FailureLocation"]))
    assert b"is lost" in reason and b"No space left on device" in reason
