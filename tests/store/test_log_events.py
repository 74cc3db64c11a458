"""Log events: batches, positions, pages, and what is removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clary.store import log_events
from clary.store.database import Store
from clary.store.log_events import Stream, StreamExists, StreamGone, StreamQuery, Window

GROUP = "123456789012:us-east-1:/aws/sagemaker/TrainingJobs"


@pytest.fixture
def telemetry(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{tmp_path}/telemetry.db")
    yield store
    store.close()


def stream_of(telemetry: Store, name: str, *times: int) -> Stream:
    log_events.create_stream(telemetry, GROUP, name, now=1)
    if times:
        put(telemetry, name, *times)
    return found(telemetry, name)


def put(telemetry: Store, name: str, *times: int) -> int:
    lines = [(time, f"{name} at {time} #{index}") for index, time in enumerate(times)]
    return log_events.put(telemetry, found(telemetry, name), lines, now=9_000)


def found(telemetry: Store, name: str) -> Stream:
    stream = log_events.find_stream(telemetry, GROUP, name)
    assert stream is not None
    return stream


def test_a_stream_knows_its_first_and_newest_event_and_its_size(telemetry: Store) -> None:
    assert stream_of(telemetry, "job/algo-1").empty
    put(telemetry, "job/algo-1", 2_000, 3_000)
    put(telemetry, "job/algo-1", 1_000)
    stream = found(telemetry, "job/algo-1")
    assert (stream.first_time, stream.last_time, stream.last_ingestion) == (1_000, 3_000, 9_000)
    assert stream.sequence == 3
    assert stream.bytes == 3 * (len("job/algo-1 at 1000 #0") + 26)


def test_two_streams_of_a_group_cannot_have_one_name(telemetry: Store) -> None:
    stream_of(telemetry, "same")
    with pytest.raises(StreamExists):
        log_events.create_stream(telemetry, GROUP, "same", now=1)


def test_events_of_one_millisecond_keep_the_order_in_which_they_were_put(telemetry: Store) -> None:
    stream = stream_of(telemetry, "s", 5, 5, 5, 5)
    forward = [event.message for event in log_events.read_forward(telemetry, stream.id, Window())]
    assert forward == [f"s at 5 #{index}" for index in range(4)]
    backward = log_events.read_backward(telemetry, stream.id, Window())
    assert [event.message for event in backward] == forward[::-1]


def test_a_read_resumes_strictly_after_a_position(telemetry: Store) -> None:
    stream = stream_of(telemetry, "s", 5, 5, 6, 7)
    first = next(log_events.read_forward(telemetry, stream.id, Window()))
    rest = log_events.read_forward(telemetry, stream.id, Window(after=first.position))
    assert [(event.time, event.sequence) for event in rest] == [(5, 2), (6, 3), (7, 4)]
    earlier = log_events.read_backward(telemetry, stream.id, Window(before=(6, 3)))
    assert [(event.time, event.sequence) for event in earlier] == [(5, 2), (5, 1)]


def test_the_end_of_a_window_is_exclusive_and_its_start_inclusive(telemetry: Store) -> None:
    stream = stream_of(telemetry, "s", 1, 2, 3, 4)
    window = Window(start=2, end=4)
    assert [event.time for event in log_events.read_forward(telemetry, stream.id, window)] == [2, 3]
    assert [event.time for event in log_events.read_backward(telemetry, stream.id, window)] == [
        3,
        2,
    ]


def test_a_long_stream_is_read_whole_in_pieces(telemetry: Store) -> None:
    stream = stream_of(telemetry, "s", *range(1_000, 13_500))
    times = [event.time for event in log_events.read_forward(telemetry, stream.id, Window())]
    assert times == list(range(1_000, 13_500))
    times = [event.time for event in log_events.read_backward(telemetry, stream.id, Window())]
    assert times == list(range(13_499, 999, -1))


def test_streams_are_listed_by_name_in_pages(telemetry: Store) -> None:
    for name in ("b/2", "a/1", "b/1", "B/1", "b/3"):
        stream_of(telemetry, name)
    page, after = log_events.list_streams(telemetry, StreamQuery(GROUP, prefix="b/", limit=2))
    assert [stream.name for stream in page] == ["b/1", "b/2"]
    query = StreamQuery(GROUP, prefix="b/", limit=2, after=after)
    page, after = log_events.list_streams(telemetry, query)
    assert [stream.name for stream in page] == ["b/3"]
    assert after is None


def test_streams_are_listed_by_their_newest_event(telemetry: Store) -> None:
    stream_of(telemetry, "old", 10)
    stream_of(telemetry, "new", 30)
    stream_of(telemetry, "middle", 20)
    stream_of(telemetry, "empty")
    names: list[str] = []
    after = None
    for _ in range(4):
        query = StreamQuery(GROUP, by_time=True, descending=True, limit=1, after=after)
        page, after = log_events.list_streams(telemetry, query)
        names += [stream.name for stream in page]
    assert names == ["new", "middle", "old", "empty"]
    assert after is None


def test_only_streams_with_events_in_the_window_are_searched(telemetry: Store) -> None:
    stream_of(telemetry, "job/2", 100, 200)
    stream_of(telemetry, "job/1", 50, 60)
    stream_of(telemetry, "job/3", 300)
    stream_of(telemetry, "empty")
    within = log_events.streams_within(telemetry, GROUP, Window(start=55, end=201))
    assert [stream.name for stream in within] == ["job/1", "job/2"]
    within = log_events.streams_within(telemetry, GROUP, Window(), names=["job/3", "job/2"])
    assert [stream.name for stream in within] == ["job/2", "job/3"]


def test_a_deleted_stream_is_out_of_sight_and_its_events_follow(telemetry: Store) -> None:
    stream = stream_of(telemetry, "s", *range(10))
    log_events.delete_streams(telemetry, GROUP)
    assert log_events.find_stream(telemetry, GROUP, "s") is None
    assert log_events.purge_deleted(telemetry, rows_max=4) == 4
    assert log_events.purge_deleted(telemetry) == 6
    assert list(log_events.read_forward(telemetry, stream.id, Window())) == []
    with pytest.raises(StreamGone):
        log_events.put(telemetry, stream, [(1, "late")], now=2)


def test_a_stream_can_have_the_name_of_a_deleted_one(telemetry: Store) -> None:
    stream_of(telemetry, "s", 1)
    log_events.delete_streams(telemetry, GROUP, "s")
    again = stream_of(telemetry, "s", 2)
    log_events.purge_deleted(telemetry)
    assert [event.time for event in log_events.read_forward(telemetry, again.id, Window())] == [2]


def test_old_events_are_removed_and_the_stream_begins_later(telemetry: Store) -> None:
    stream = stream_of(telemetry, "s", *range(100, 120))
    assert log_events.purge_older(telemetry, GROUP, 110, rows_max=6) == 6
    assert log_events.purge_older(telemetry, GROUP, 110) == 4
    assert log_events.purge_older(telemetry, GROUP, 110) == 0
    left = [event.time for event in log_events.read_forward(telemetry, stream.id, Window())]
    assert left == list(range(110, 120))
    after = found(telemetry, "s")
    assert (after.first_time, after.last_time) == (110, 119)
    assert log_events.group_bytes(telemetry, GROUP) == after.bytes
    assert after.bytes == 10 * (len("s at 110 #10") + 26)


def test_a_stream_without_events_left_is_empty_again(telemetry: Store) -> None:
    stream_of(telemetry, "s", 1, 2)
    log_events.purge_older(telemetry, GROUP, 10)
    assert found(telemetry, "s").empty
    put(telemetry, "s", 20)
    assert found(telemetry, "s").first_time == 20
