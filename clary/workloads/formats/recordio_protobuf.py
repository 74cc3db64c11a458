"""RecordIO-protobuf (`aialgs.data.Record`), read and written with numpy alone.

    frame  = magic 0xCED7230A · length · payload · zeros up to four bytes        (little endian)
    Record = 1: map features · 2: map label · 3: uid · 4: metadata · 5: configuration
    Value  = 2: Float32Tensor · 3: Float64Tensor · 7: Int32Tensor · 9: Bytes
    Tensor = 1: values, packed · 2: keys, packed · 3: shape, packed

Dense rows of one width are the same bytes but for their numbers, so a whole file is compared
with its first row and then sliced by stride. Whatever fails the comparison is read one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy

from clary.workloads.formats import protobuf_wire as wire

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
COLUMNS_MAX = 2**31 - 2
KINDS = {2: "<f4", 3: "<f8", 7: "<i4"}
FIELDS = {"<f4": 2, "<f8": 3, "<i4": 7}


class RecordError(ValueError):
    """The bytes are not RecordIO-protobuf, or its records do not fit one matrix."""


@dataclass
class Tensor:
    """One value of a record: dense where `keys` is None."""

    values: numpy.ndarray
    keys: numpy.ndarray | None
    shape: tuple[int, ...]
    offset: int = -1


@dataclass
class Record:
    """One example: its features and its labels by name ("values" for both, as a rule)."""

    features: dict[str, Tensor]
    label: dict[str, Tensor]
    uid: str = ""
    metadata: str = ""
    configuration: str = ""


def read_matrix(
    data: bytes | bytearray | memoryview,
) -> tuple[numpy.ndarray | csr_matrix, numpy.ndarray | None]:
    """Return (features, labels): a dense matrix, or CSR where any record is sparse.

    Labels are None where no record has one, a vector where each has one number, else a matrix.
    Numbers stay float32 unless some record holds float64 or int32, which need float64.
    """
    view = bytes(data)
    if not view:
        raise RecordError("the RecordIO body is empty")
    sliced = _read_by_stride(view)
    if sliced is not None:
        return sliced
    records = list(read_records(view))
    tensors = [_only(record.features, "features", at) for at, record in enumerate(records)]
    labels = _labels(records)
    if any(tensor.keys is not None for tensor in tensors):
        return _sparse(tensors), labels
    widths = {tensor.values.size for tensor in tensors}
    if len(widths) != 1:
        raise RecordError(f"dense records differ in their number of features: {sorted(widths)}")
    return _stack([tensor.values for tensor in tensors]), labels


def read_records(data: bytes | bytearray | memoryview) -> Iterator[Record]:
    """Yield every record, one by one."""
    for start, payload in frames(data):
        try:
            yield _record(payload)
        except (wire.WireError, struct.error, UnicodeDecodeError) as problem:
            raise RecordError(f"the record at byte {start} is damaged: {problem}") from problem


def frames(data: bytes | bytearray | memoryview) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, payload) of each RecordIO record; parts of a split record are joined."""
    view = memoryview(data)
    at, parts = 0, []
    while at < len(view):
        if len(view) - at < 8:
            raise RecordError(f"the RecordIO body ends inside a header at byte {at}")
        magic, word = struct.unpack_from("<II", view, at)
        if magic != MAGIC:
            raise RecordError(f"byte {at} is not the start of a RecordIO record")
        # The three upper bits say which part of a split record this is: 0 whole, 1 first,
        # 2 middle, 3 last. A writer splits where the payload itself holds the magic number.
        part, length = word >> 29, word & 0x1FFFFFFF
        if at + 8 + length > len(view):
            raise RecordError(f"the record at byte {at} is cut off: {length} bytes were announced")
        parts.append(bytes(view[at + 8 : at + 8 + length]))
        if part in (0, 3):
            yield at, parts[0] if len(parts) == 1 else MAGIC_BYTES.join(parts)
            parts = []
        elif part not in (1, 2):
            raise RecordError(f"the record at byte {at} has an unknown part number {part}")
        at += 8 + length + (-length % 4)
    if parts:
        raise RecordError("the RecordIO body ends inside a split record")


def write_records(features: Any, labels: numpy.ndarray | None = None) -> bytes:
    """Return one record a row, features and labels under the name "values"."""
    if hasattr(features, "tocsr"):
        return _write_sparse(features, labels)
    rows = _numbers(numpy.atleast_2d(numpy.asarray(features)))
    parts = [(1, "values", rows)]
    if labels is not None:
        parts.append((2, "values", _label_columns(labels, len(rows))))
    return _write_dense(parts, len(rows))


def write_outputs(outputs: dict[str, numpy.ndarray]) -> bytes:
    """Return one record a row with no features and every output as a label of its name."""
    if not outputs:
        raise RecordError("there is no output to write")
    count = len(next(iter(outputs.values())))
    parts = [(2, name, _label_columns(column, count)) for name, column in outputs.items()]
    return _write_dense(parts, count)


# -- reading ------------------------------------------------------------------------------------


def _record(payload: bytes) -> Record:
    record = Record({}, {})
    for field, kind, value, offset in wire.fields(payload, 0, len(payload)):
        if field in (1, 2) and kind == 2:
            name, tensor = _entry(payload, offset, offset + value)
            if tensor is not None:
                (record.features if field == 1 else record.label)[name] = tensor
        elif field in (3, 4, 5) and kind == 2:
            text = payload[offset : offset + value].decode("utf-8")
            setattr(record, {3: "uid", 4: "metadata", 5: "configuration"}[field], text)
    return record


def _entry(payload: bytes, start: int, end: int) -> tuple[str, Tensor | None]:
    """Read one entry of a map<string, Value>."""
    name, tensor = "", None
    for field, kind, value, offset in wire.fields(payload, start, end):
        if field == 1 and kind == 2:
            name = payload[offset : offset + value].decode("utf-8")
        elif field == 2 and kind == 2:
            for inner, form, size, place in wire.fields(payload, offset, offset + value):
                if inner in KINDS and form == 2:
                    tensor = _tensor(payload, place, place + size, KINDS[inner])
    return name, tensor


def _tensor(payload: bytes, start: int, end: int, dtype: str) -> Tensor:
    values: list[numpy.ndarray] = []
    keys: list[numpy.ndarray] = []
    shape: list[int] = []
    place, width = -1, 0 if dtype == "<i4" else int(dtype[2])
    for field, kind, value, offset in wire.fields(payload, start, end):
        if field == 1 and kind == 2 and width:
            if value % width:
                raise wire.WireError(f"{value} bytes are no whole number of values")
            values.append(numpy.frombuffer(payload, dtype, value // width, offset))
            place = offset
        elif field == 1 and kind == 2:
            values.append(wire.varints(payload, offset, offset + value).astype("<i4"))
        elif field == 1 and kind in (1, 5) and width:
            values.append(numpy.frombuffer(payload, dtype, 1, offset))
        elif field == 1 and kind == 0:
            values.append(numpy.array([value], dtype=numpy.uint64).astype("<i4"))
        elif field == 2:
            keys.append(_counts(payload, kind, value, offset))
        elif field == 3:
            shape.extend(_counts(payload, kind, value, offset).tolist())
    joined = values[0] if len(values) == 1 else _joined(values, dtype)
    index = numpy.concatenate(keys) if keys else None
    if index is not None and index.size != joined.size:
        raise wire.WireError(f"{joined.size} values have {index.size} keys")
    return Tensor(joined, index, tuple(shape), place if len(values) == 1 else -1)


def _counts(payload: bytes, kind: int, value: int, offset: int) -> numpy.ndarray:
    if kind == 2:
        return wire.varints(payload, offset, offset + value)
    return numpy.array([value], dtype=numpy.uint64)


def _joined(values: list[numpy.ndarray], dtype: str) -> numpy.ndarray:
    return numpy.concatenate(values) if values else numpy.empty(0, dtype)


def _read_by_stride(view: bytes) -> tuple[numpy.ndarray, numpy.ndarray | None] | None:
    """Slice a body whose records are all alike; None where they are not."""
    if len(view) < 8 or view[:4] != MAGIC_BYTES:
        return None
    length = struct.unpack_from("<I", view, 4)[0]
    stride = 8 + length + (-length % 4)
    if length >= 1 << 29 or len(view) % stride:
        return None
    try:
        first = _record(view[8 : 8 + length])
    except (wire.WireError, struct.error, UnicodeDecodeError):
        return None
    if list(first.features) != ["values"] or list(first.label) not in ([], ["values"]):
        return None
    tensors = [first.features["values"], *first.label.values()]
    if any(t.offset < 0 or t.keys is not None or not t.values.size for t in tensors):
        return None
    rows = numpy.frombuffer(view, numpy.uint8).reshape(-1, stride)
    spans = sorted((8 + t.offset, 8 + t.offset + t.values.nbytes) for t in tensors)
    edges = [0, *(edge for span in spans for edge in span), stride]
    for start, end in zip(edges[::2], edges[1::2]):  # noqa: B905
        if (rows[:, start:end] != rows[0, start:end]).any():
            return None
    columns = [_numbers(_slice(rows, tensor)) for tensor in tensors]
    label = columns[1] if len(columns) > 1 else None
    if label is not None and label.shape[1] == 1:
        label = label[:, 0]
    return columns[0], label


def _slice(rows: numpy.ndarray, tensor: Tensor) -> numpy.ndarray:
    start = 8 + tensor.offset
    part = numpy.ascontiguousarray(rows[:, start : start + tensor.values.nbytes])
    return part.view(tensor.values.dtype)


def _only(values: dict[str, Tensor], what: str, at: int) -> Tensor:
    if "values" in values:
        return values["values"]
    raise RecordError(f'record {at + 1} has no numeric {what} named "values"')


def _numbers(table: numpy.ndarray) -> numpy.ndarray:
    """Keep float32; everything else needs float64 to stay exact."""
    if table.dtype == numpy.float32:
        return table.astype("<f4", copy=False)
    return table.astype("<f8")


def _stack(rows: list[numpy.ndarray]) -> numpy.ndarray:
    return _numbers(numpy.stack([_numbers(row) for row in rows]))


def _labels(records: list[Record]) -> numpy.ndarray | None:
    having = sum(1 for record in records if record.label)
    if not having:
        return None
    if having != len(records):
        raise RecordError("some records have a label and some have none")
    rows = [_only(record.label, "label", at).values for at, record in enumerate(records)]
    if len({row.size for row in rows}) != 1:
        raise RecordError("the labels of the records differ in length")
    table = _stack(rows)
    return table[:, 0] if table.shape[1] == 1 else table


def _sparse(tensors: list[Tensor]) -> csr_matrix:
    from scipy.sparse import csr_matrix

    width = 0
    indices, values = [], []
    for at, tensor in enumerate(tensors):
        keys = numpy.arange(tensor.values.size) if tensor.keys is None else tensor.keys
        top = int(keys.max()) + 1 if keys.size else 0
        stated = tensor.shape[-1] if tensor.shape else top
        if top > stated or stated > COLUMNS_MAX:
            raise RecordError(f"a key of record {at + 1} is outside its shape {tensor.shape}")
        width = max(width, stated)
        indices.append(keys.astype(numpy.int64))
        values.append(_numbers(tensor.values))
    ends = numpy.cumsum([0, *(keys.size for keys in indices)])
    flat = numpy.concatenate(values)
    matrix = csr_matrix((flat, numpy.concatenate(indices), ends), shape=(len(tensors), width))
    matrix.sort_indices()
    return matrix


# -- writing ------------------------------------------------------------------------------------


def _label_columns(labels: numpy.ndarray, count: int) -> numpy.ndarray:
    table = _numbers(numpy.asarray(labels))
    table = table.reshape(len(table), -1) if table.ndim else table.reshape(1, 1)
    if len(table) != count:
        raise RecordError(f"{len(table)} labels were given for {count} rows")
    return table


def _write_dense(parts: list[tuple[int, str, numpy.ndarray]], count: int) -> bytes:
    """Write one template row, repeat it, and lay the numbers over it."""
    template, places = b"", []
    for field, name, table in parts:
        head = _entry_bytes(field, name, table.dtype.str, table.shape[1] * table.itemsize)
        places.append(len(template) + len(head))
        template += head + bytes(table.shape[1] * table.itemsize)
    length = len(template)
    if length >= 1 << 29:
        raise RecordError(f"a record of {length} bytes is too large for RecordIO")
    row = MAGIC_BYTES + struct.pack("<I", length) + template + bytes(-length % 4)
    out = numpy.tile(numpy.frombuffer(row, numpy.uint8), (count, 1))
    for (_, _, table), place in zip(parts, places):  # noqa: B905
        octets = numpy.ascontiguousarray(table).view(numpy.uint8).reshape(count, -1)
        out[:, 8 + place : 8 + place + octets.shape[1]] = octets
    return out.tobytes()


def _entry_bytes(field: int, name: str, dtype: str, size: int) -> bytes:
    """Return a map entry with a dense tensor of `size` bytes, up to its first value."""
    values = wire.tag(1, 2) + wire.varint(size)
    tensor = wire.tag(FIELDS[dtype], 2) + wire.varint(len(values) + size) + values
    value = wire.tag(2, 2) + wire.varint(len(tensor) + size) + tensor
    key = wire.chunk(1, name.encode("utf-8"))
    return wire.tag(field, 2) + wire.varint(len(key) + len(value) + size) + key + value


def _write_sparse(features: Any, labels: numpy.ndarray | None) -> bytes:
    matrix = features.tocsr()
    count, width = matrix.shape
    table = None if labels is None else _label_columns(labels, count)
    data, out = _numbers(matrix.data), []
    for row in range(count):
        start, end = matrix.indptr[row], matrix.indptr[row + 1]
        keys = b"".join(map(wire.varint, matrix.indices[start:end].tolist()))
        tensor = wire.chunk(1, data[start:end].tobytes()) + wire.chunk(2, keys)
        tensor += wire.chunk(3, wire.varint(width))
        value = wire.chunk(FIELDS[data.dtype.str], tensor)
        payload = wire.chunk(1, wire.chunk(1, b"values") + wire.chunk(2, value))
        if table is not None:
            label = table[row].tobytes()
            payload += _entry_bytes(2, "values", table.dtype.str, len(label)) + label
        out.append(MAGIC_BYTES + struct.pack("<I", len(payload)) + payload)
        out.append(bytes(-len(payload) % 4))
    return b"".join(out)
