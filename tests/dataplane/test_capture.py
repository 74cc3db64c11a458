"""Data capture: the records of invocations, the files they end in, and what happens when they cannot."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading

import boto3
import pytest
from botocore.config import Config

from clary.dataplane import capture
from clary.dataplane.answer_heads import AnswerHead
from clary.dataplane.capture import Captures
from clary.dataplane.capture_records import Lines, object_key
from clary.dataplane.capture_settings import CaptureSettings
from clary.dataplane.routes import EndpointRoute
from clary.store.objects import Objects

ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/iris"
CONFIG = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 100,
    "DestinationS3Uri": "s3://captured/model-monitor/",
    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    "CaptureContentTypeHeader": {
        "CsvContentTypes": ["text/csv"],
        "JsonContentTypes": ["application/json"],
    },
}
NOON = 1_644_859_549.172  # 2022-02-14T17:25:49.172Z


def settings(**changes):
    found = CaptureSettings.parse({**CONFIG, **changes})
    assert found is not None
    return found


def record(body=b"69,0,1.5\n", content_type="text/csv", answer=b"0.0254", **headers):
    given = {"content-type": content_type, **headers}
    return NOON, body, given, answer, [(b"content-type", b"text/csv; charset=utf-8")]


def line_of(record, settings):
    return Lines(settings).line(record)


def route(**changes):
    return EndpointRoute(
        region="us-east-1", name="iris", arn=ARN, account="123456789012", status="InService",
        config="c", variants=(), log_group="g", capture=settings(**changes),
    )  # fmt: skip


def offer(captures, body=b"1,2", answer=b"3", to=None):
    head = AnswerHead(200, [(b"content-type", b"text/csv")])
    captures.offer(to or IRIS, "main", {"content-type": "text/csv"}, body, head, answer)


IRIS = route()


class Kept:
    """An object store in memory, or one whose disk is full; and the log of the endpoint."""

    def __init__(self, problem=None):
        self.objects = {}
        self.problem = problem
        self.written = threading.Event()
        self.told = []

    def put(self, bucket, key, data, content_type="", user=None):
        self.written.set()
        if self.problem is not None:
            raise self.problem
        self.objects[bucket, key] = data

    def write(self, route, stream, message):
        self.told.append((route.name, stream, message))

    async def close(self):
        self.told.append("closed")

    def lines(self):
        return [json.loads(line) for data in self.objects.values() for line in data.splitlines()]


def test_a_line_is_exactly_sagemakers():
    line = line_of(
        record(**{
            "x-amzn-sagemaker-inference-id": "id-7",
            "x-amzn-sagemaker-custom-attributes": "trace=1",
        }),
        settings(),
    )  # fmt: skip
    assert line.endswith(b"}\n")
    found = json.loads(line)
    event = found["eventMetadata"].pop("eventId")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", event)
    assert found == {
        "captureData": {
            "endpointInput": {
                "observedContentType": "text/csv",
                "mode": "INPUT",
                "data": "69,0,1.5\n",
                "encoding": "CSV",
            },
            "endpointOutput": {
                "observedContentType": "text/csv; charset=utf-8",
                "mode": "OUTPUT",
                "data": "0.0254",
                "encoding": "CSV",
            },
        },
        "eventMetadata": {
            "inferenceId": "id-7",
            "customAttributes": ["trace=1"],
            "inferenceTime": "2022-02-14T17:25:49Z",
        },
        "eventVersion": "0",
    }


def test_what_a_line_tells_does_not_depend_on_the_lines_before_it():
    lines = Lines(settings())
    odd = record(**{"x-amzn-sagemaker-inference-id": "id-7"})
    for number in range(3):
        moment, body, headers, answer, told = record(body=b'"\\%d"' % number)
        told = [*told, (b"x-amzn-sagemaker-custom-attributes", b"trace=%d" % number)]
        found = json.loads(lines.line((moment + number, body, headers, answer, told)))
        assert found["captureData"]["endpointInput"]["data"] == f'"\\{number}"'
        assert found["captureData"]["endpointOutput"]["data"] == "0.0254"
        event = found["eventMetadata"]
        assert list(event) == ["eventId", "customAttributes", "inferenceTime"]
        assert event["customAttributes"] == [f"trace={number}"]
        assert event["inferenceTime"] == f"2022-02-14T17:25:{49 + number}Z"
        assert "inferenceId" in json.loads(lines.line(odd))["eventMetadata"]


def test_each_line_has_a_number_of_its_own():
    lines = Lines(settings())
    numbers = {json.loads(lines.line(record()))["eventMetadata"]["eventId"] for _ in range(50)}
    assert len(numbers) == 50


@pytest.mark.parametrize(
    ("content_type", "body", "encoding", "data"),
    [
        ("application/json; charset=utf-8", b'{"a": 1}', "JSON", '{"a": 1}'),
        ("TEXT/CSV", b"1", "CSV", "1"),
        ("application/x-npy", b"\x93NUMPY", "BASE64", base64.b64encode(b"\x93NUMPY").decode()),
        ("text/csv", b"\xff", "BASE64", "/w=="),
        ("", b"x", "BASE64", "eA=="),
    ],
)
def test_the_content_type_decides_the_encoding(content_type, body, encoding, data):
    found = json.loads(line_of(record(body, content_type), settings()))
    side = found["captureData"]["endpointInput"]
    assert (side["encoding"], side["data"]) == (encoding, data)


def test_without_content_types_everything_is_base64():
    found = json.loads(line_of(record(), settings(CaptureContentTypeHeader=None)))
    assert found["captureData"]["endpointInput"]["encoding"] == "BASE64"


def test_only_the_sides_asked_for_are_captured():
    both = settings(CaptureOptions=[{"CaptureMode": "InputAndOutput"}])
    assert (both.input, both.output) == (True, True)
    one = settings(CaptureOptions=[{"CaptureMode": "Output"}])
    assert (one.input, one.output) == (False, True)
    found = json.loads(line_of((NOON, None, {}, b"1", []), one))
    assert list(found["captureData"]) == ["endpointOutput"]


def test_the_file_is_named_by_endpoint_variant_and_moment():
    key = object_key("model-monitor", "iris", "main", NOON)
    assert re.fullmatch(
        r"model-monitor/iris/main/2022/02/14/17/25-49-172-[0-9a-f-]{36}\.jsonl", key
    )
    assert object_key("", "iris", "main", NOON).startswith("iris/main/2022/")


def test_a_disabled_configuration_captures_nothing():
    assert CaptureSettings.parse({**CONFIG, "EnableCapture": False}) is None
    assert CaptureSettings.parse(None) is None


def test_each_hour_has_its_own_file():
    kept, now = Kept(), [NOON]

    async def main():
        captures = Captures(kept, clock=lambda: now[0])
        offer(captures)
        now[0] += 3600
        offer(captures)
        await captures.close()

    asyncio.run(main())
    hours = sorted(key.split("/")[6] for _, key in kept.objects)
    assert hours == ["17", "18"]


def test_sampling_keeps_the_share_that_was_asked_for():
    kept, sampled = Kept(), route(InitialSamplingPercentage=30)
    draws = iter([0.1, 0.29, 0.31, 0.9])

    async def main():
        captures = Captures(kept, chance=lambda: next(draws))
        for number in range(4):
            offer(captures, body=str(number).encode(), to=sampled)
        await captures.close()

    asyncio.run(main())
    inputs = [line["captureData"]["endpointInput"]["data"] for line in kept.lines()]
    assert inputs == ["0", "1"]


def test_a_full_memory_drops_and_counts_but_never_raises(monkeypatch):
    monkeypatch.setattr(capture, "WAITING_BYTES_MAX", 2_000)
    kept = Kept()

    async def main():
        captures = Captures(kept, kept)
        for _ in range(10):
            offer(captures, body=b"x" * 300)
        assert captures.dropped == 8
        await captures.close()
        assert captures.captured == 2

    asyncio.run(main())
    assert len(kept.lines()) == 2
    full, resumed, closed = kept.told
    assert full[:2] == ("iris", "data-capture") and "no memory for more" in full[2]
    assert "goes on; 8 records were lost" in resumed[2]
    assert closed == "closed"


def test_a_full_disk_is_told_once_to_the_endpoints_log_and_capture_resumes():
    kept = Kept(OSError(28, "No space left on device"))

    async def main():
        captures = Captures(kept, kept, flush_seconds=0.01)
        flushing = asyncio.create_task(captures.flush_for_ever())
        async with asyncio.timeout(20):
            for count in (1, 2, 3):
                offer(captures)
                while captures.dropped < count:
                    await asyncio.sleep(0.005)
            kept.problem = None
            offer(captures, body=b"again")
            while captures.captured < 1:
                await asyncio.sleep(0.005)
        flushing.cancel()
        await captures.close()
        assert (captures.captured, captures.dropped) == (1, 3)
        offer(captures)  # what comes too late is dropped as well
        assert captures.dropped == 4

    asyncio.run(main())
    (line,) = kept.lines()
    assert line["captureData"]["endpointInput"]["data"] == "again"
    full, resumed, _ = kept.told
    assert "No space left on device" in full[2] and "s3://captured/" in full[2]
    assert "goes on; 3 records were lost" in resumed[2]


def test_many_records_are_written_without_waiting_for_the_time(monkeypatch):
    monkeypatch.setattr(capture, "FLUSH_RECORDS", 3)
    monkeypatch.setattr(capture, "RECORDS_AT_ONCE", 3)
    kept = Kept()

    async def main():
        captures = Captures(kept, flush_seconds=3600)
        for _ in range(3):
            offer(captures)
        assert await asyncio.to_thread(kept.written.wait, 10)
        await captures.close()

    asyncio.run(main())
    assert len(kept.lines()) == 3


def test_invocations_of_a_running_door_are_captured_and_failures_are_not(
    home, serve_unix, control, start_door, set_routes
):
    def model(seen):
        status = 500 if seen.body == b"bad" else 200
        return status, {"content-type": "text/csv"}, b"0.5"

    serve_unix(home / "m.sock", model)
    store = Objects(home / "objects")
    store.create_bucket("captured")
    variant = {
        "name": "main", "weight": 1, "instances": [{"id": "i", "socket": str(home / "m.sock")}],
    }  # fmt: skip
    set_routes(
        {
            "us-east-1/iris": {
                "arn": ARN, "account": "1", "status": "InService", "variants": [variant],
                "capture": CONFIG,
            }
        }
    )  # fmt: skip
    with start_door(store=store) as door:
        client = boto3.client(
            "sagemaker-runtime", region_name="us-east-1", endpoint_url=door.url,
            aws_access_key_id="A", aws_secret_access_key="s",
            config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip
        large = b"1," * 100_000  # takes the way through ASGI
        for body in (b"1,2", large):
            client.invoke_endpoint(
                EndpointName="iris", Body=body, ContentType="text/csv", InferenceId="n-1"
            )["Body"].read()
        with pytest.raises(client.exceptions.ModelError):
            client.invoke_endpoint(EndpointName="iris", Body=b"bad", ContentType="text/csv")
        client.close()
    keys = [info.key for info in store.list("captured").objects]
    assert all(key.startswith("model-monitor/iris/main/20") for key in keys)
    lines = [json.loads(line) for key in keys for line in store.read("captured", key).splitlines()]
    assert [line["captureData"]["endpointInput"]["data"] for line in lines] == [
        "1,2",
        large.decode(),
    ]
    assert all(line["captureData"]["endpointOutput"]["data"] == "0.5" for line in lines)
    assert all(line["eventMetadata"]["inferenceId"] == "n-1" for line in lines)
