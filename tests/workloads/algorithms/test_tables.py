"""Tables: text to one matrix, piece by piece, in memory or on disk."""

from __future__ import annotations

import gzip

import numpy
import pyarrow
import pytest
from pyarrow import parquet

from clary.workloads.algorithms import csv_numbers, tables
from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.first_party import examples, recordio_blocks
from clary.workloads.algorithms.growing_matrix import (
    GrowingMatrix,
    SpilledMatrix,
    forget,
    is_spilled,
)
from clary.workloads.algorithms.tabular.splits import Fifth
from clary.workloads.formats import csv_rows, recordio_protobuf

ROWS = numpy.random.default_rng(0).normal(size=(500, 4)).astype(numpy.float32)


@pytest.fixture
def small_pieces(monkeypatch):
    """Files of some kilobytes are many pieces."""
    for module in (csv_numbers, recordio_blocks):
        monkeypatch.setattr(module, "PIECE_BYTES", 512)


def test_a_matrix_grows_beyond_what_was_expected():
    matrix = GrowingMatrix(4, 3)
    for part in numpy.array_split(ROWS, 50):
        matrix.extend(part)
    assert numpy.array_equal(matrix.whole(), ROWS)


def test_a_spilled_matrix_is_read_again_after_it_was_forgotten():
    matrix = SpilledMatrix(4)
    for part in numpy.array_split(ROWS, 7):
        matrix.extend(part)
    whole = matrix.whole()
    assert is_spilled(whole) and not is_spilled(ROWS)
    assert numpy.array_equal(whole, ROWS)
    forget(whole[10:20])
    assert numpy.array_equal(whole, ROWS)


def test_to_forget_a_matrix_in_memory_keeps_it():
    matrix = GrowingMatrix(4, 500)
    matrix.extend(ROWS)
    whole = matrix.whole()
    forget(whole)
    assert numpy.array_equal(whole, ROWS)


@pytest.mark.parametrize("threads", [1, 3])
def test_csv_in_pieces_is_the_same_as_at_once(tmp_path, small_pieces, threads):
    text = csv_rows.write(ROWS).replace(b"\n", b"\r\n").replace(b"\r\n", b"\n\n", 5).strip()
    (tmp_path / "a.csv").write_bytes(text)
    table = tables.read_csv([tmp_path / "a.csv"], 1, threads)
    assert numpy.array_equal(table.labels, ROWS[:, 0])
    assert numpy.array_equal(table.features, ROWS[:, 1:])


def test_all_dense_formats_spill_the_same_rows(tmp_path, monkeypatch, small_pieces):
    monkeypatch.setattr(tables, "SPILLED_BYTES_MIN", 0)
    parquet.write_table(
        pyarrow.table({str(at): ROWS[:, at] for at in range(4)}), tmp_path / "c", row_group_size=90
    )
    contents = {
        tables.CSV: csv_rows.write(ROWS),
        tables.RECORDIO: recordio_protobuf.write_records(ROWS[:, 1:], ROWS[:, 0]),
        tables.PARQUET: (tmp_path / "c").read_bytes(),
    }
    for name, content in contents.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "data").write_bytes(content)
        table = tables.read(Channel("train", folder), name, depth_max=3, spills=True)
        assert is_spilled(table.features)
        assert numpy.array_equal(table.features, ROWS[:, 1:])
        assert numpy.array_equal(table.labels, ROWS[:, 0])


def test_a_wrong_line_is_named_by_its_place_in_the_whole_file(tmp_path, small_pieces):
    lines = csv_rows.write(ROWS).splitlines()
    lines[320] = b"1,2"
    (tmp_path / "bad.csv").write_bytes(b"\n".join(lines))
    with pytest.raises(UserError, match=r"bad\.csv: .*Row #321: Expected 4 columns, got 2"):
        tables.read_csv([tmp_path / "bad.csv"], 1, 2)


def test_files_of_different_widths_are_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"1,2,3\n")
    (tmp_path / "b.csv").write_bytes(b"1,2\n")
    with pytest.raises(UserError, match="differ in their number of columns"):
        tables.read_csv([tmp_path / "a.csv", tmp_path / "b.csv"], 1, 2)


def test_a_later_piece_of_another_width_is_refused(tmp_path, small_pieces):
    (tmp_path / "a.csv").write_bytes(b"1,2,3\n" * 200 + b"1,2\n" * 400)
    with pytest.raises(UserError, match=r"a\.csv"):
        tables.read_csv([tmp_path / "a.csv"], 1, 2)


def glued(place) -> Channel:
    """A pipe of two objects, the first of which has no line end at its end."""
    (place / "train_0").write_bytes(b"0,1,2\n1,3,40,1,2\n1,3,4\n")
    return Channel("train", place / "train", "text/csv", mode="Pipe")


HINT = "the object that ends here seems to lack the line end after its last line"


def test_objects_that_a_pipe_has_glued_together_are_told_of(tmp_path):
    channel = glued(tmp_path)
    with pytest.raises(UserError, match=f"Expected 3 columns, got 5.*{HINT}"):
        tables.read(channel, tables.CSV, depth_max=3)
    wanted = examples.Wanted(labels=True)
    with pytest.raises(UserError, match=f"line 2: 5 columns, where the first line has 3.*{HINT}"):
        examples.read(channel, wanted)


def test_a_long_line_of_a_file_is_no_matter_of_pipes(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"0,1,2\n1,3,40,1,2\n")
    with pytest.raises(UserError) as problem:
        examples.read(Channel("train", tmp_path, "text/csv"), examples.Wanted(labels=True))
    assert "5 columns" in str(problem.value) and "pipe" not in str(problem.value)


def test_compressed_text_is_refused_by_every_reader_of_csv(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"0,1,2\n"))
    channel, told = Channel("train", tmp_path, "text/csv"), "'a.csv.gz' is compressed with gzip"
    with pytest.raises(UserError, match=told):
        tables.read(channel, tables.CSV, depth_max=3)
    with pytest.raises(UserError, match=told):
        examples.read(channel, examples.Wanted(labels=True))
    with pytest.raises(UserError, match="the content type text/libsvm is plain text"):
        tables.read(channel, tables.LIBSVM, depth_max=3)


def test_a_fifth_is_one_of_each_five_rows_however_they_come():
    whole = Fifth().mask(1000)
    fifth = Fifth()
    parts = numpy.concatenate([fifth.mask(rows) for rows in (1, 7, 0, 492, 500)])
    assert numpy.array_equal(whole, parts)
    assert (whole.reshape(-1, 5).sum(axis=1) == 1).all()
