"""The few rules of the protobuf wire format that RecordIO-protobuf needs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy


class WireError(ValueError):
    """The bytes break the protobuf wire format."""


def varint(number: int) -> bytes:
    """Encode a non-negative integer."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(field: int, kind: int) -> bytes:
    """Encode a field's number and wire type."""
    return varint(field << 3 | kind)


def chunk(field: int, content: bytes) -> bytes:
    """Encode a length-delimited field."""
    return tag(field, 2) + varint(len(content)) + content


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return (number, next offset); a varint has at most ten bytes."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise WireError("a number is cut off")
        octet = data[at]
        at += 1
        number |= (octet & 0x7F) << shift
        if octet < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, at
    raise WireError("a number is longer than ten bytes")


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field, wire type, value, offset): the value of type 2 is its length."""
    while at < end:
        key, at = read_varint(data, at, end)
        field, kind = key >> 3, key & 7
        if kind == 0:
            value, at = read_varint(data, at, end)
            yield field, kind, value, at
            continue
        if kind == 2:
            value, at = read_varint(data, at, end)
        elif kind in (1, 5):
            value = 8 if kind == 1 else 4
        else:
            raise WireError(f"wire type {kind} is not in use")
        if not field or value > end - at:
            raise WireError(f"field {field} reaches beyond its message")
        yield field, kind, value, at
        at += value


def varints(data: bytes, start: int, end: int) -> numpy.ndarray:
    """Decode a packed run of varints to uint64, all at once."""
    octets = numpy.frombuffer(data, numpy.uint8, end - start, start)
    if not octets.size:
        return numpy.empty(0, numpy.uint64)
    last = octets < 0x80
    if last.all():
        return octets.astype(numpy.uint64)
    if not last[-1]:
        raise WireError("a packed number is cut off")
    ends = numpy.flatnonzero(last)
    starts = numpy.concatenate(([0], ends[:-1] + 1))
    sizes = ends - starts + 1
    if int(sizes.max()) > 10:
        raise WireError("a packed number is longer than ten bytes")
    place = numpy.arange(octets.size) - numpy.repeat(starts, sizes)
    shifted = (octets & 0x7F).astype(numpy.uint64) << (7 * place).astype(numpy.uint64)
    return numpy.add.reduceat(shifted, starts).astype(numpy.uint64)
