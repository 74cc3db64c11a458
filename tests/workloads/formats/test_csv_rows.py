"""Numeric CSV: the fast paths, the careful path, and errors that say where."""

import math

import numpy
import pytest

from clary.workloads.formats import csv_rows


def test_one_row_becomes_a_matrix_of_one_row() -> None:
    rows = csv_rows.read(b"1,2.5,-3e2")
    assert rows.dtype == numpy.float64
    assert rows.tolist() == [[1.0, 2.5, -300.0]]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_of_all_systems_and_blank_lines_are_understood(end: bytes) -> None:
    assert csv_rows.read(end.join([b"1,2", b"", b"3,4", b""])).tolist() == [[1, 2], [3, 4]]


def test_an_empty_field_is_not_a_number() -> None:
    rows = csv_rows.read(b"1,,3\n4,5,")
    assert rows[0, 0] == 1 and math.isnan(rows[0, 1]) and math.isnan(rows[1, 2])


def test_nan_and_infinity_are_read() -> None:
    rows = csv_rows.read(b"nan,inf,-inf,+1, .5 ,007")
    assert math.isnan(rows[0, 0])
    assert rows[0, 1:].tolist() == [math.inf, -math.inf, 1.0, 0.5, 7.0]


def test_quoted_numbers_and_text_input_are_read() -> None:
    assert csv_rows.read('"1.5","2"\n3,4').tolist() == [[1.5, 2], [3, 4]]


def test_one_column_of_many_rows_stays_a_column() -> None:
    assert csv_rows.read(b"1\n2\n3").shape == (3, 1)


def test_big_numbers_survive() -> None:
    assert csv_rows.read(b"123456789012345678901234567890,1e308").tolist() == [
        [1.2345678901234568e29, 1e308]
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"1,2\n3,4,5", "line 2 of the CSV has 3 columns, where the first row has 2"),
        (b"1,2\n3,cat", "line 2, column 2 of the CSV is not a number: 'cat'"),
        (b"1_000,2", "line 1, column 1 of the CSV is not a number: '1_000'"),
        (b"1,[2]", "line 1, column 2 of the CSV is not a number: '[2]'"),
        (b"1,true,null", "line 1, column 2 of the CSV is not a number: 'true'"),
        (b"", "the CSV holds no rows"),
        (b"\n\r\n", "the CSV holds no rows"),
        (b"1,2\n\xff\xfe,3", "line 2 of the CSV is not UTF-8 text"),
        (b"1,\x00\x01", "line 1, column 2 of the CSV is not a number"),
    ],
)
def test_what_is_no_rectangle_of_numbers_is_refused_with_its_place(text: bytes, words: str) -> None:
    with pytest.raises(csv_rows.RowError) as caught:
        csv_rows.read(text)
    assert words in str(caught.value)


def test_a_long_cell_is_shown_shortened() -> None:
    with pytest.raises(csv_rows.RowError) as caught:
        csv_rows.read(b"x" * 100_000)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("delimiter", ["\t", ";", "|", " "])
def test_the_delimiter_is_found(delimiter: str) -> None:
    body = delimiter.join(["1", "2", "3"]) + "\n" + delimiter.join(["4", "5", "6"])
    assert csv_rows.read(body, delimiter=None).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_both_readers_agree_on_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    table = numpy.random.default_rng(7).normal(size=(200, 12)) * 1e5
    body = csv_rows.write(table)
    fast = csv_rows.read(body)
    monkeypatch.setattr(csv_rows, "_loads", None)
    assert (fast == table).all()
    assert (csv_rows.read(body) == table).all()


def test_writing_gives_a_line_for_each_value_of_a_vector() -> None:
    assert csv_rows.write(numpy.array([0.5, 1.0])) == b"0.5\n1.0\n"
    assert csv_rows.write(numpy.array([[1, 2], [3, 4]])) == b"1,2\n3,4\n"
    assert csv_rows.write(numpy.array(["a", "b"])) == b"a\nb\n"
    assert csv_rows.write(numpy.float64(2.5)) == b"2.5\n"
