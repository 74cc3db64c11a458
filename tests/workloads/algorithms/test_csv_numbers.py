"""CSV of numbers: what polars reads at once is what careful readers make of it, piece by piece."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest

from clary.images import build, catalogue
from clary.settings import Settings
from clary.workloads.algorithms import csv_numbers
from clary.workloads.algorithms.csv_numbers import Form

IMAGE = "382416733822.dkr.ecr.us-east-1.amazonaws.com/lightgbm:1"
# Reads each text with the environment's polars, and with Arrow alone; tells what both make of it.
SCRIPT = """
import io, json, sys
from clary.workloads.algorithms import csv_columns, csv_numbers
from clary.workloads.algorithms.errors import UserError
from clary.workloads.formats import libsvm

def rows(text):
    try:
        parts = list(csv_columns.blocks(io.BytesIO(text), "a.csv", 1, 2))
    except UserError as problem:
        return str(problem)
    return [[str(v) for v in (*h, *f)] for a, b in parts for h, f in zip(a.T, b)]

def pairs(text):
    try:
        found = libsvm.parse(text)
    except libsvm.LibsvmError as problem:
        return str(problem)
    return [found.labels.tolist(), str(found.features.toarray().tolist()), str(found.weights)]

texts, lines = ([one.encode("latin-1") for one in some] for some in json.load(sys.stdin))
form = csv_numbers.Form(3, missing=csv_columns.NULLS)
plain = [csv_numbers.read(text, form) is not None for text in texts]
fast = [rows(text) for text in texts], [pairs(text) for text in lines]
assert csv_numbers.polars and libsvm.polars
csv_numbers.polars = libsvm.polars = None
slow = [rows(text) for text in texts], [pairs(text) for text in lines]
print(json.dumps([plain, fast, slow]))
"""
PLAIN = {
    "numbers": "1,2,3\n4,5.5,-6e3\n",
    "carriage returns": "1,2,3\r\n4,5,6\r\n",
    "no last line end": "1,2,3\n4,5,6",
    "missing values": "1,,3\n4,5,\n",
    "words for missing values": "1,NA,3\n4,null,nan\n",
    "infinity": "1,inf,1e999\n4,5,6\n",
    "quoted numbers": '"1","2",3\n4,5,6\n',
    "a blank after each comma": "1, 2, 3\n4, 5, 6\n",
}
NOT_PLAIN = {
    "a short row": "1,2,3\n4,5\n7,8,9\n",
    "a short row that begins with nothing": "1,2,3\n,5\n7,8,9\n",
    "a long row": "1,2,3\n4,5,6,7\n",
    "a short row and a long one": "1,2,3\n4,5\n4,5,6,7\n",
    "a blank line": "1,2,3\n\n4,5,6\n",
    "a word": "1,2,3\n4,five,6\n",
    "a blank value": "1, 2, 3\n4, , 6\n",
    "an underscore": "1,2,3\n1_0,2,3\n",
    "bytes that are no text": "1,2,3\n4,\xff,6\n",
    "an open quote": '1,2,3\n4,"5,6\n7,8,9\n',
    "a wider first row": "1,2,3,4\n1,2,3,4\n",
}
LINES = [
    "1 0:1.5 3:2\n0 1:-1e3 \n",
    "1\r\n0 1:1\r\n",
    "1:0.5 2:3\n0:2 1:4\n",
    "1 2:3 # note\n",
    "1 0:1\n1  2:3\n",
    "1 0:1\n1 :2\n",
    '1 0:1\n1 "1":2\n',
    "1 0:1\n1 1.0:2\n",
    "1 0:1\n1 0:1:2\n",
    "1 0:1\n\n0.5 1:1\n",
    "1 -1:2\n",
]


@pytest.fixture(scope="module")
def readings() -> list:
    image = catalogue.resolve(IMAGE, settings := Settings.load())
    python = build.build(image.environment, settings) / "bin" / "python"
    texts = [[*PLAIN.values(), *NOT_PLAIN.values()], LINES]
    ended = subprocess.run(
        [str(python), "-c", SCRIPT],
        input=json.dumps(texts),
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_polars_and_arrow_read_the_same_and_refuse_in_the_same_words(readings):
    _, (fast, _), (slow, _) = readings
    for name, one, other in zip((*PLAIN, *NOT_PLAIN), fast, slow, strict=True):
        assert one == other, name
    assert fast[list(PLAIN).index("a blank after each comma")][1] == ["4.0", "5.0", "6.0"]


def test_only_a_rectangle_of_numbers_is_read_without_care(readings):
    plain = dict(zip((*PLAIN, *NOT_PLAIN), readings[0], strict=True))
    assert [name for name in PLAIN if not plain[name]] == []
    assert [name for name in NOT_PLAIN if plain[name]] == []


def test_libsvm_is_the_same_at_once_and_line_by_line(readings):
    _, (_, fast), (_, slow) = readings
    assert fast == slow


def test_pieces_are_whole_lines_and_lose_no_byte(monkeypatch):
    monkeypatch.setattr(csv_numbers, "PIECE_BYTES", 16)
    lines = [b"%d,%s\n" % (at, b"7" * (at % 40)) for at in range(300)]
    text = b"".join(lines) + b"the end"
    found = list(csv_numbers.pieces(io.BytesIO(text)))
    assert b"".join(found) == text
    assert all(piece.endswith(b"\n") for piece in found[:-1]) and found[-1].endswith(b"the end")
    assert len(found) > 100


def test_a_line_without_an_end_is_refused(monkeypatch):
    monkeypatch.setattr(csv_numbers, "PIECE_BYTES", 16)
    monkeypatch.setattr(csv_numbers, "LINE_BYTES_MAX", 100)
    with pytest.raises(csv_numbers.EndlessLine):
        list(csv_numbers.pieces(io.BytesIO(b"1" * 200)))


def test_without_polars_every_piece_is_read_with_care(monkeypatch):
    monkeypatch.setattr(csv_numbers, "polars", None)
    assert csv_numbers.read(b"1,2\n", Form(2)) is None
