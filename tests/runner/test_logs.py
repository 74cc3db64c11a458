"""Log lines arrive in order, escaped, and survive a door that is away."""

from __future__ import annotations

import json
import socket
import time
import uuid

import pytest

from clary.runner.lines import shown
from clary.runner.logs import EVENT_BYTES_MAX, LogShipper
from clary.runner.signing import Credentials
from clary.runner.spools import Spool

KEYS = Credentials("AKIAEXAMPLE", "secret", "", float("inf"))
NOW = 1_700_000_000.0


@pytest.fixture
def log() -> dict[str, str]:
    return {"group": "/aws/sagemaker/TrainingJobs", "stream": f"job/{uuid.uuid4().hex}"}


def read(boto, log: dict[str, str]) -> list[tuple[int, str]]:
    found, token = [], None
    while True:
        page = boto("logs").get_log_events(
            logGroupName=log["group"],
            logStreamName=log["stream"],
            startFromHead=True,
            **({"nextToken": token} if token else {}),
        )
        found += [(event["timestamp"], event["message"]) for event in page["events"]]
        if page["nextForwardToken"] == token or not page["events"]:
            return found
        token = page["nextForwardToken"]


def sent(server) -> list:
    """The requests that carry lines."""
    return [one for one in server.requests if one.headers["x-amz-target"].endswith("PutLogEvents")]


def test_lines_arrive_in_order_with_their_times(make_spec, boto, log):
    now = time.time()
    shipper = LogShipper(make_spec(log=log), lambda: KEYS)
    for number in range(25):
        shipper.write(b"line %d" % number, now + number / 1000)
    shipper.write(b"clock stepped back", now - 5)
    assert shipper.close()
    events = read(boto, log)
    assert [text for _, text in events] == [f"line {n}" for n in range(25)] + ["clock stepped back"]
    stamps = [stamp for stamp, _ in events]
    assert stamps == sorted(stamps)
    assert stamps[24] == int((now + 0.024) * 1000)
    assert shipper.tail == [f"line {n}" for n in range(6, 25)] + ["clock stepped back"]


def test_the_first_line_is_soon_there(make_spec, boto, log):
    shipper = LogShipper(make_spec(log=log), lambda: KEYS)
    shipper.write(b"hello", time.time())
    began = time.monotonic()
    assert shipper.flush(5)
    assert time.monotonic() - began < 2
    assert [text for _, text in read(boto, log)] == ["hello"]
    assert shipper.close()


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"[0]\ttrain-auc:0.9\r\n", "[0]#011train-auc:0.9"),
        (b"\x1b[31mred\x1b[0m", "#033[31mred#033[0m"),
        ("é日本".encode(), "é日本"),
        (b"bad \xff\xfe", "bad \ufffd\ufffd"),
        (b"", ""),
        (b"50%\r100%", "50%#015100%"),
    ],
)
def test_control_characters_are_shown_as_cloudwatch_shows_them(line, text):
    assert shown(line) == text


def test_empty_and_overlong_lines_are_made_to_fit(make_spec, scripted, reply, log):
    server = scripted(lambda request: reply(200, b"{}"))
    shipper = LogShipper(make_spec(log=log, endpoint_url=server.url), lambda: KEYS)
    shipper.write(b"", NOW)
    shipper.write("é".encode() * EVENT_BYTES_MAX, NOW)
    assert shipper.close()
    messages = [
        event["message"] for request in sent(server) for event in request.document["logEvents"]
    ]
    assert messages[0] == " "
    assert "".join(messages[1:]) == "é" * EVENT_BYTES_MAX
    assert max(len(message.encode()) for message in messages) <= EVENT_BYTES_MAX


def test_batches_keep_within_the_limits_of_the_service(make_spec, scripted, reply, log):
    server = scripted(lambda request: reply(200, b"{}"))
    shipper = LogShipper(make_spec(log=log, endpoint_url=server.url), lambda: KEYS)
    for number in range(25_000):
        shipper.write(b"x%d" % number, NOW + number * 0.0001)
    for _ in range(10):
        shipper.write(b"y" * 250_000, NOW + 3)
    shipper.write(b"two days later", NOW + 2 * 86400)
    assert shipper.close()
    batches = [request.document["logEvents"] for request in sent(server)]
    assert sum(len(batch) for batch in batches) == 25_011
    for batch in batches:
        assert len(batch) <= 10_000
        assert sum(len(event["message"].encode()) + 26 for event in batch) <= 1_048_576
        assert batch[-1]["timestamp"] - batch[0]["timestamp"] < 24 * 3600 * 1000
    assert [event["message"] for batch in batches for event in batch][:25_000] == [
        f"x{number}" for number in range(25_000)
    ]
    first = sent(server)[0]
    assert first.headers["x-amz-target"] == "Logs_20140328.PutLogEvents"
    assert first.headers["content-type"] == "application/x-amz-json-1.1"
    assert "/us-east-1/logs/aws4_request" in first.headers["authorization"]


def test_lines_written_while_the_door_is_away_arrive_when_it_is_back(
    make_spec, scripted, reply, log
):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    shipper = LogShipper(make_spec(log=log, endpoint_url=f"http://127.0.0.1:{port}"), lambda: KEYS)
    for number in range(1000):
        shipper.write(b"line %d" % number, NOW)
    deadline = time.monotonic() + 10
    while not shipper.last_problem:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    server = scripted(lambda request: reply(200, b"{}"), port)
    assert shipper.flush(10)
    messages = [
        event["message"] for request in sent(server) for event in request.document["logEvents"]
    ]
    assert messages == [f"line {number}" for number in range(1000)]
    assert shipper.close()


def test_the_first_lines_of_a_host_take_two_calls(make_spec, scripted, reply, log):
    server = scripted(lambda request: reply(200, b"{}"))
    shipper = LogShipper(make_spec(log=log, endpoint_url=server.url), lambda: KEYS)
    shipper.write(b"done", NOW)
    assert shipper.close()
    operations = [one.headers["x-amz-target"].partition(".")[2] for one in server.requests]
    assert operations == ["CreateLogStream", "PutLogEvents"]


def test_a_log_that_is_deleted_meanwhile_is_made_again(make_spec, boto, log):
    log = {**log, "group": f"/aws/sagemaker/{uuid.uuid4().hex}"}
    shipper = LogShipper(make_spec(log=log), lambda: KEYS)
    shipper.write(b"before", time.time())
    assert shipper.flush()
    boto("logs").delete_log_group(logGroupName=log["group"])
    shipper.write(b"after", time.time())
    assert shipper.close()
    assert [text for _, text in read(boto, log)] == ["after"]


def test_closing_does_not_wait_for_ever(make_spec, log, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    spec = make_spec(log=log, endpoint_url=f"http://127.0.0.1:{port}")
    shipper = LogShipper(spec, lambda: KEYS)
    shipper.write(b"lost", NOW)
    began = time.monotonic()
    assert not shipper.close(0.3)
    assert time.monotonic() - began < 2
    assert [path.name for path in spec.directory.iterdir()] == ["ml"]


def test_what_is_never_accepted_does_not_hold_up_the_rest(
    make_spec, scripted, reply, log, monkeypatch
):
    monkeypatch.setattr("clary.runner.logs.BATCH_EVENTS_MAX", 2)

    def answer(request):
        if b"poison" in request.body:
            return reply(400, json.dumps({"__type": "InvalidParameterException"}).encode())
        return reply(200, b"{}")

    server = scripted(answer)
    shipper = LogShipper(make_spec(log=log, endpoint_url=server.url), lambda: KEYS)
    for line in (b"poison", b"neighbour", b"good"):
        shipper.write(line, NOW)
    assert shipper.close()
    accepted = [
        event["message"]
        for request in sent(server)
        if b"poison" not in request.body
        for event in request.document["logEvents"]
    ]
    assert accepted == ["good", "[clary] 2 log lines could not be kept and are missing here"]


def test_without_a_log_only_the_tail_is_kept(make_spec):
    shipper = LogShipper(make_spec(), lambda: KEYS)
    for number in range(30):
        shipper.write(b"%d" % number, NOW)
    assert shipper.flush()
    assert shipper.close()
    assert shipper.tail == [str(number) for number in range(10, 30)]


def test_a_spool_is_bounded_and_cut_back_when_it_is_empty(tmp_path, monkeypatch):
    monkeypatch.setattr("clary.runner.spools.CUT_BYTES", 1000)
    spool = Spool(tmp_path, bytes_max=10_000)
    kept = [spool.put(1, bytes(88)) for _ in range(200)]
    assert kept.count(True) == 100
    assert spool.dropped == 100
    records, mark = spool.peek(10**6, 10**6, span=1)
    assert len(records) == 100
    spool.take(mark)
    assert spool.waiting_bytes == 0
    assert spool.put(2, b"again")
    records, _ = spool.peek(10**6, 10**6, span=1)
    assert records == [(2, b"again")]
    assert list(tmp_path.iterdir()) == []
    spool.close()
