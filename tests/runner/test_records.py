from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.runner.records import Batch, RecordFault, assembled, batches

LINES = st.lists(st.binary(min_size=1, max_size=30).filter(lambda line: not set(line) & {10, 13}))


class Trickle:
    """A source that gives a few bytes at a time, as a network may."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file = io.BytesIO(data)
        self._step = step

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, self._step))


def cut(
    data: bytes, split: str = "Line", *, limit: int = 1000, single: bool = False, step: int = 7
) -> list[Batch]:
    return list(batches(Trickle(data, step), split, bytes_max=limit, single=single))


def recordio(payload: bytes, flag: int = 0) -> bytes:
    head = struct.pack("<II", 0xCED7230A, flag << 29 | len(payload))
    return head + payload + b"\0" * (-len(payload) % 4)


def tfrecord(payload: bytes) -> bytes:
    return struct.pack("<QI", len(payload), 1) + payload + struct.pack("<I", 2)


@given(LINES, st.integers(32, 90), st.integers(1, 50), st.booleans())
def test_splitting_and_assembling_lines_is_the_identity(
    lines: list[bytes], limit: int, step: int, single: bool
) -> None:
    data = b"".join(line + b"\n" for line in lines)
    found = cut(data, limit=limit, single=single, step=step)
    assert b"".join(assembled(batch.body, "Line") for batch in found) == data
    assert all(len(batch.body) <= limit for batch in found)


@given(LINES, st.integers(32, 90), st.integers(1, 50), st.booleans())
def test_the_records_of_batches_are_counted_without_gaps(
    lines: list[bytes], limit: int, step: int, ends: bool
) -> None:
    data = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    following = 1
    for batch in cut(data, limit=limit, step=step):
        assert batch.first == following
        assert batch.records == len(batch.body.splitlines())
        following += batch.records
    assert following == len(lines) + 1


@given(
    st.lists(st.binary(max_size=40)),
    st.sampled_from(["RecordIO", "TFRecord"]),
    st.integers(64, 200),
    st.integers(1, 50),
)
def test_frames_are_kept_together_and_unwrapped_apart(
    payloads: list[bytes], split: str, limit: int, step: int
) -> None:
    data = b"".join((recordio if split == "RecordIO" else tfrecord)(one) for one in payloads)
    together = cut(data, split, limit=limit, step=step)
    assert b"".join(batch.body for batch in together) == data
    assert all(len(batch.body) <= limit for batch in together)
    assert [batch.body for batch in cut(data, split, single=True, step=step)] == payloads


def test_multi_record_packs_as_many_lines_as_fit() -> None:
    assert [batch.body for batch in cut(b"aa\nbb\ncc\ndd", limit=6)] == [b"aa\nbb\n", b"cc\ndd"]


def test_a_batch_names_its_records() -> None:
    assert [batch.place for batch in cut(b"aa\nbb\ncc\n", limit=6)] == [
        "records 1 to 2",
        "record 3",
    ]


def test_single_record_skips_blank_lines_but_counts_them() -> None:
    found = cut(b"a\r\n\n\nb\n", single=True)
    assert [(batch.body, batch.first) for batch in found] == [(b"a", 1), (b"b", 4)]


def test_an_object_that_is_not_split_is_one_request() -> None:
    assert cut(b"x\ny\n", "None") == [Batch(b"x\ny\n", 1, 1)]
    assert cut(b"", "None") == []


@pytest.mark.parametrize("single", [True, False])
def test_a_line_above_the_payload_is_an_error_that_names_it(single: bool) -> None:
    with pytest.raises(RecordFault, match="Record 2 is larger than MaxPayloadInMB"):
        cut(b"a\n" + b"x" * 2000 + b"\nb\n", single=single)


def test_an_object_above_the_payload_cannot_be_one_record() -> None:
    with pytest.raises(RecordFault, match="SplitType None"):
        cut(b"x" * 1001, "None")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (recordio(b"whole") + recordio(b"cut short")[:-6], "Record 2 is cut short"),
        (b"not a record at all", "Record 1 does not begin with the magic number"),
        (recordio(b"x", 2), "Record 1 is continued by a part that does not belong to it"),
        (struct.pack("<II", 0xCED7230A, 0x1FFFFFFF), "Record 1 is larger than MaxPayloadInMB"),
    ],
)
def test_broken_record_io_is_told_with_its_record(data: bytes, reason: str) -> None:
    with pytest.raises(RecordFault, match=reason):
        cut(data, "RecordIO")


def test_a_record_in_several_parts_is_one_record() -> None:
    magic = struct.pack("<I", 0xCED7230A)
    data = recordio(b"a", 1) + recordio(b"b", 2) + recordio(b"c", 3) + recordio(b"next")
    assert [batch.body for batch in cut(data, "RecordIO", single=True)] == [
        b"a" + magic + b"b" + magic + b"c",
        b"next",
    ]


def test_assembling_with_none_leaves_the_answer_alone() -> None:
    assert assembled(b"0.5", "None") == b"0.5"
    assert assembled(b"0.5", "Line") == b"0.5\n"
    assert assembled(b"0.5\n", "Line") == b"0.5\n"
