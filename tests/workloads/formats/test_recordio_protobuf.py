"""RecordIO-protobuf: bytes of the public SDK's writer, both readers, and damage of every kind."""

import base64
import struct

import numpy
import pytest
import scipy.sparse

from clary.workloads.formats import protobuf_wire as wire
from clary.workloads.formats import recordio_protobuf as recordio

# Written by sagemaker-training 5.1.4 (its protobuf library): two dense rows [1.5, -2, 0] and
# [4, 5, 6] with labels 1 and 0, then a sparse row {1: 2.5, 300: 7.0} of 400 columns, label 3.
DENSE_BY_THE_PUBLIC_WRITER = base64.b64decode(
    "CiPXzjAAAAAKGgoGdmFsdWVzEhASDgoMAADAPwAAAMAAAAAAEhIKBnZhbHVlcxIIEgYKBAAAgD8KI9fOMAAAAAoaCgZ2YWx1ZXMSEBIOCgwAAIBAAACgQAAAwEASEgoGdmFsdWVzEggSBgoEAAAAAA=="
)
SPARSE_BY_THE_PUBLIC_WRITER = base64.b64decode(
    "CiPXzjUAAAAKHwoGdmFsdWVzEhUSEwoIAAAgQAAA4EASAwGsAhoCkAMSEgoGdmFsdWVzEggSBgoEAABAQAAAAA=="
)


def test_the_public_writers_dense_bytes_are_read_and_written_alike() -> None:
    features, labels = recordio.read_matrix(DENSE_BY_THE_PUBLIC_WRITER)
    assert features.tolist() == [[1.5, -2.0, 0.0], [4.0, 5.0, 6.0]]
    assert labels is not None and labels.tolist() == [1.0, 0.0]
    assert features.dtype == numpy.float32
    written = recordio.write_records(
        numpy.array(features, dtype="f4"), numpy.array(labels, dtype="f4")
    )
    assert written == DENSE_BY_THE_PUBLIC_WRITER


def test_the_public_writers_sparse_bytes_are_read() -> None:
    features, labels = recordio.read_matrix(SPARSE_BY_THE_PUBLIC_WRITER)
    assert scipy.sparse.issparse(features)
    assert features.shape == (1, 400)
    assert (features[0, 1], features[0, 300]) == (2.5, 7.0)
    assert labels is not None and labels.tolist() == [3.0]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_dense_rows_come_back_as_they_were(dtype: str) -> None:
    rows = numpy.random.default_rng(3).normal(size=(1000, 7)).astype(dtype)
    labels = numpy.arange(1000, dtype=dtype)
    found, found_labels = recordio.read_matrix(recordio.write_records(rows, labels))
    assert found.dtype == rows.dtype
    assert (found == rows).all()
    assert (found_labels == labels).all()


def test_rows_without_labels_and_with_several_labels_come_back() -> None:
    rows = numpy.ones((3, 2), dtype="f4")
    assert recordio.read_matrix(recordio.write_records(rows))[1] is None
    labels = numpy.arange(6, dtype="f4").reshape(3, 2)
    assert (recordio.read_matrix(recordio.write_records(rows, labels))[1] == labels).all()


def test_sparse_rows_come_back_as_they_were() -> None:
    rows = scipy.sparse.random(50, 1000, 0.05, format="csr", dtype="f4", random_state=1)
    found, labels = recordio.read_matrix(recordio.write_records(rows, numpy.arange(50)))
    assert found.shape == rows.shape
    assert (found != rows).nnz == 0
    assert labels is not None and labels.tolist() == list(range(50))


def test_records_of_different_layout_are_read_one_by_one() -> None:
    narrow = recordio.write_records(numpy.ones((2, 3), dtype="f4"))
    wide = recordio.write_records(numpy.ones((2, 3), dtype="f8") * 2)
    found, _ = recordio.read_matrix(narrow + wide)
    assert found.dtype == numpy.float64
    assert found.tolist() == [[1] * 3, [1] * 3, [2] * 3, [2] * 3]


def test_unpacked_values_and_int32_tensors_are_read() -> None:
    floats = b"".join(wire.tag(1, 5) + struct.pack("<f", v) for v in (1.0, 2.0))
    ints = wire.chunk(1, wire.varint(3) + wire.varint(2**64 - 1))
    for field, tensor, expected in ((2, floats, [1.0, 2.0]), (7, ints, [3.0, -1.0])):
        value = wire.chunk(2, wire.chunk(field, tensor))
        payload = wire.chunk(1, wire.chunk(1, b"values") + value)
        assert recordio.read_matrix(_frame(payload))[0].tolist() == [expected]


def test_a_record_split_around_the_magic_number_is_joined() -> None:
    whole = recordio.write_records(numpy.ones((1, 3), dtype="f4"))[8:]
    payload = whole[: len(whole)]
    length = struct.unpack("<I", recordio.write_records(numpy.ones((1, 3), dtype="f4"))[4:8])[0]
    payload = payload[:length]
    middle = payload.replace(struct.pack("<f", 1.0), recordio.MAGIC_BYTES, 1)
    first, second = middle.split(recordio.MAGIC_BYTES)
    split = _frame(first, part=1) + _frame(second, part=3)
    assert [content for _, content in recordio.frames(split)] == [middle]


def test_outputs_are_labels_of_their_names() -> None:
    body = recordio.write_outputs(
        {"score": numpy.array([0.5, 0.25]), "closest": numpy.ones((2, 1))}
    )
    records = list(recordio.read_records(body))
    assert [record.features for record in records] == [{}, {}]
    assert records[1].label["score"].values.tolist() == [0.25]
    assert set(records[0].label) == {"score", "closest"}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda body: b"", "empty"),
        (lambda body: body[:-1], "cut off|ends inside"),
        (lambda body: body[:5], "ends inside a header"),
        (lambda body: b"\x00" + body[1:], "not the start of a RecordIO record"),
        (lambda body: b"1,2,3\n4,5,6\n", "not the start of a RecordIO record"),
        (lambda body: body[:4] + b"\xff\xff\xff\x1f" + body[8:], "cut off"),
        (lambda body: body[:8] + b"\xff" * 12 + body[20:], "damaged"),
        (lambda body: _frame(b""), "no numeric features"),
        (lambda body: _frame(b"\x0a\x7f"), "reaches beyond"),
        (lambda body: body[:4] + b"\x30\x00\x00\xe0" + body[8:], "part number|cut off"),
    ],
)
def test_damaged_bytes_are_refused(damage, words: str) -> None:
    body = recordio.write_records(numpy.ones((1, 6), dtype="f4"), numpy.ones(1, dtype="f4"))
    with pytest.raises(recordio.RecordError, match=words):
        recordio.read_matrix(damage(body))


def test_rows_of_different_width_and_keys_outside_the_shape_are_refused() -> None:
    ragged = recordio.write_records(numpy.ones((1, 2))) + recordio.write_records(numpy.ones((1, 3)))
    with pytest.raises(recordio.RecordError, match="differ in their number of features"):
        recordio.read_matrix(ragged)
    tensor = wire.chunk(1, struct.pack("<f", 1)) + wire.chunk(2, wire.varint(9))
    tensor += wire.chunk(3, wire.varint(5))
    payload = wire.chunk(1, wire.chunk(1, b"values") + wire.chunk(2, wire.chunk(2, tensor)))
    with pytest.raises(recordio.RecordError, match="outside its shape"):
        recordio.read_matrix(_frame(payload))


def test_random_damage_never_raises_anything_but_the_documented_error() -> None:
    random = numpy.random.default_rng(11)
    body = recordio.write_records(numpy.ones((4, 5), dtype="f4"), numpy.ones(4, dtype="f4"))
    for _ in range(2000):
        hurt = bytearray(body)
        for at in random.integers(0, len(hurt), 3):
            hurt[at] = int(random.integers(0, 256))
        try:
            recordio.read_matrix(bytes(hurt))
        except recordio.RecordError:
            continue


def _frame(payload: bytes, part: int = 0) -> bytes:
    head = recordio.MAGIC_BYTES + struct.pack("<I", part << 29 | len(payload))
    return head + payload + bytes(-len(payload) % 4)
