from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.runner.data_processing import DataProcessing, ProcessingFault, Processor, fields_of
from clary.runner.json_paths import parse
from clary.runner.records import Batch

CSV, JSON, LINES = "text/csv", "application/json", "application/jsonlines"


def made(
    kind: str, split: str = "Line", *, taken: str = "$", joins: bool = False, left: str = "$"
) -> Processor:
    wanted = DataProcessing(parse(taken), joins, parse(left))
    return Processor(wanted, kind, kind, split)


def batch(body: bytes, records: int = 0) -> Batch:
    return Batch(body, 1, records or len(body.splitlines()))


def test_without_filters_bytes_are_not_looked_at() -> None:
    processor = made("application/x-npy")
    assert processor.request(batch(b"\x93NUMPY")) == b"\x93NUMPY"
    assert processor.response(batch(b"a"), b"\xff", "") == b"\xff"


def test_an_input_filter_leaves_out_the_id_column() -> None:
    assert made(CSV, taken="$[1:]").request(batch(b"id1,2,3\nid2,4,5\n")) == b"2,3\n4,5\n"


def test_a_join_puts_the_answer_behind_the_whole_row() -> None:
    processor = made(CSV, taken="$[1:]", joins=True)
    answer = processor.response(
        batch(b"id1,2,3\nid2,4,5\n"), b"0.1\n0.9\n", "text/csv; charset=utf-8"
    )
    assert answer == b"id1,2,3,0.1\nid2,4,5,0.9\n"


def test_an_output_filter_works_on_the_joined_row() -> None:
    processor = made(CSV, taken="$[1:]", joins=True, left="$[0,-1]")
    assert processor.response(batch(b"a,2,3\nb,4,5"), b"0.1\n0.9", CSV) == b"a,0.1\nb,0.9"


def test_quoted_fields_stay_as_they_are_written() -> None:
    processor = made(CSV, joins=True, left="$[0,2]")
    assert processor.response(batch(b'"a, ""b""",1\n'), b"0.5\n", CSV) == b'"a, ""b""",0.5\n'


@given(st.lists(st.text(alphabet='a,"b ', max_size=6), min_size=1, max_size=6))
def test_fields_are_found_again(texts: list[str]) -> None:
    written = [('"' + text.replace('"', '""') + '"').encode() for text in texts]
    assert fields_of(b",".join(written)) == written


def test_quotes_that_do_not_end_are_told() -> None:
    with pytest.raises(ProcessingFault, match="quotes"):
        fields_of(b'a,"b')


def test_json_lines_get_the_answer_as_a_member() -> None:
    processor = made(LINES, taken="$.features", joins=True)
    source = batch(b'{"id":1,"features":[1]}\n{"id":2,"features":[2]}\n')
    assert processor.request(source) == b"[1]\n[2]\n"
    assert processor.response(source, b'{"score":0.1}\n{"score":0.9}\n', LINES) == (
        b'{"id":1,"features":[1],"SageMakerOutput":{"score":0.1}}\n'
        b'{"id":2,"features":[2],"SageMakerOutput":{"score":0.9}}\n'
    )


def test_a_record_that_is_no_object_is_wrapped() -> None:
    processor = made(JSON, "None", joins=True)
    assert json.loads(processor.response(batch(b"[1,\n2]", 1), b"[0.1]", JSON)) == {
        "SageMakerInput": [1, 2],
        "SageMakerOutput": [0.1],
    }


def test_an_output_filter_takes_members_of_the_joined_object() -> None:
    processor = made(LINES, joins=True, left="$['id','SageMakerOutput']")
    assert processor.response(batch(b'{"id":1,"x":2}'), b"0.1", LINES) == (
        b'{"id":1,"SageMakerOutput":0.1}'
    )


def test_an_answer_with_other_records_cannot_be_joined() -> None:
    with pytest.raises(ProcessingFault, match="has 1 records where the request had 2"):
        made(CSV, joins=True).response(batch(b"1\n2\n"), b"0.1\n", CSV)


def test_a_record_without_the_filters_member_is_named() -> None:
    with pytest.raises(ProcessingFault, match="InputFilter: record 2: there is nothing at"):
        made(LINES, taken="$.x").request(batch(b'{"x":1}\n{"y":1}\n'))


def test_an_answer_of_another_type_cannot_be_filtered() -> None:
    processor = Processor(DataProcessing(output_filter=parse("$[0]")), CSV, "", "Line")
    with pytest.raises(ProcessingFault, match="content type 'image/png'"):
        processor.response(batch(b"1"), b"x", "image/png")


def test_inference_ids_are_appended_with_the_time() -> None:
    at = "2022-08-30T00:49:15Z"
    wanted = DataProcessing(inference_time=at)
    row = Processor(wanted, CSV, CSV, "Line").response(batch(b"a\nb"), b"0\n1\n", CSV)
    uuid = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert re.fullmatch(f"0,{uuid},{at}\n1,{uuid},{at}\n", row.decode())
    line = Processor(wanted, LINES, LINES, "Line").response(batch(b"{}"), b'{"output":0}', LINES)
    assert list(json.loads(line)) == ["output", "SageMakerInferenceId", "SageMakerInferenceTime"]
