"""An object cut into requests of batch transform: whole records, as many as fit, in their order."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol, Tuple  # noqa: UP035 - the alias below is evaluated

READ_BYTES = 1024 * 1024
_RECORDIO = struct.Struct("<II")
_RECORDIO_MAGIC = 0xCED7230A
_RECORDIO_MAGIC_BYTES = struct.pack("<I", _RECORDIO_MAGIC)
_TFRECORD = struct.Struct("<QI")
_TFRECORD_FOOTER_BYTES = 4


class Source(Protocol):
    def read(self, size: int, /) -> bytes:
        """Between one and `size` bytes, none only at the end."""
        ...


class Batch(NamedTuple):
    """The body of one request: the records `first` to `first + records - 1` of its object, from 1."""

    body: bytes
    first: int
    records: int

    @property
    def place(self) -> str:
        last = self.first + self.records - 1
        return f"record {self.first}" if last <= self.first else f"records {self.first} to {last}"


class RecordFault(Exception):
    """An object that cannot be cut into requests; the text says at which record, and why."""


_Frame = Tuple[bytes, bytes]  # noqa: UP006 - the record as it is framed, and what is in the frame


def batches(source: Source, split: str, *, bytes_max: int, single: bool) -> Iterator[Batch]:
    """The requests of an object; `split` is None, Line, RecordIO or TFRecord. Raise RecordFault."""
    if split == "Line":
        cut = _lines_apart if single else _lines_together
        return cut(source, bytes_max)
    if split in ("RecordIO", "TFRecord"):
        reader = _Exact(source, bytes_max)
        frames = _recordio(reader) if split == "RecordIO" else _tfrecords(reader)
        return _frames_apart(frames) if single else _frames_together(frames, bytes_max)
    return _whole(source, bytes_max)


def _too_large(what: str, bytes_max: int) -> RecordFault:
    return RecordFault(
        f"{what} is larger than MaxPayloadInMB, which is {bytes_max / 1048576:g} MB. Use a larger "
        "MaxPayloadInMB (at most 100), or smaller records"
    )


def _whole(source: Source, bytes_max: int) -> Iterator[Batch]:
    """An object that is not split is one request; an empty one is none."""
    body, has_more = _take(source, b"", bytes_max)
    if has_more:
        raise _too_large("The object, which SplitType None sends as one record,", bytes_max)
    if body:
        yield Batch(body, 1, 1)


def _take(source: Source, held: bytes, bytes_max: int) -> tuple[bytes, bool]:
    """What is held and what follows, up to one byte more than fits; and whether that byte came."""
    parts, size = [held], len(held)
    while size <= bytes_max:
        data = source.read(min(READ_BYTES, bytes_max + 1 - size))
        if not data:
            return b"".join(parts), False
        parts.append(data)
        size += len(data)
    return b"".join(parts), True


# Lines ------------------------------------------------------------------------------------------


def _lines_together(source: Source, bytes_max: int) -> Iterator[Batch]:
    """As many whole lines as fit: found by one search from the end, never line by line."""
    held, first, has_more = b"", 1, True
    while has_more:
        held, has_more = _take(source, held, bytes_max)
        cut = len(held)
        if has_more:
            cut = held.rfind(b"\n", 0, bytes_max) + 1
            if not cut:
                raise _too_large(f"Record {first}", bytes_max)
        body, held = held[:cut], held[cut:]
        if body:
            count = body.count(b"\n") + (not body.endswith(b"\n"))
            yield Batch(body, first, count)
            first += count


def _lines_apart(source: Source, bytes_max: int) -> Iterator[Batch]:
    """One line a request, without its end; a blank line holds no record, but counts as one."""
    number, rest = 0, b""
    while True:
        data = source.read(min(READ_BYTES, bytes_max + 2))
        if data:
            *lines, rest = (rest + data).split(b"\n")
        else:
            lines, rest = ([rest] if rest else []), b""
        for line in lines:
            number += 1
            record = line[:-1] if line.endswith(b"\r") else line
            if len(record) > bytes_max:
                raise _too_large(f"Record {number}", bytes_max)
            if record:
                yield Batch(record, number, 1)
        if not data:
            return
        if len(rest) > bytes_max + 1:
            raise _too_large(f"Record {number + 1}", bytes_max)


# Frames -----------------------------------------------------------------------------------------


class _Exact:
    """Reads as many bytes as are asked for, and knows which record it is at."""

    def __init__(self, source: Source, bytes_max: int) -> None:
        self._source = source
        self._held = b""
        self._at = 0
        self.bytes_max = bytes_max
        self.number = 1

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes; none at the end, which may only be between two records."""
        if len(self._held) - self._at < size:
            parts, found = [self._held[self._at :]], len(self._held) - self._at
            while found < size:
                data = self._source.read(READ_BYTES)
                if not data:
                    if found:
                        raise self.fault("is cut short")
                    return b""
                parts.append(data)
                found += len(data)
            self._held, self._at = b"".join(parts), 0
        self._at += size
        return self._held[self._at - size : self._at]

    def demand(self, size: int) -> bytes:
        data = self.take(size)
        if size and not data:
            raise self.fault("is cut short")
        return data

    def check(self, size: int) -> None:
        """A length is believed only up to the largest record, since it says how much to read."""
        if size > self.bytes_max:
            raise _too_large(f"Record {self.number}", self.bytes_max)

    def fault(self, why: str) -> RecordFault:
        return RecordFault(f"Record {self.number} {why}")


def _recordio(reader: _Exact) -> Iterator[_Frame]:
    """A record may be in several parts, where its bytes held the magic number: 1 begins, 3 ends it."""
    while True:
        frame, payload, part = b"", b"", 0
        while not frame or part in (1, 2):
            head = reader.demand(_RECORDIO.size) if frame else reader.take(_RECORDIO.size)
            if not head:
                return
            magic, word = _RECORDIO.unpack(head)
            if magic != _RECORDIO_MAGIC:
                raise reader.fault("does not begin with the magic number of RecordIO")
            following, size = word >> 29, word & 0x1FFFFFFF
            if following not in ((2, 3) if frame else (0, 1)):
                raise reader.fault("is continued by a part that does not belong to it")
            reader.check(len(frame) + len(head) + size)
            data = reader.demand(size)
            payload += (_RECORDIO_MAGIC_BYTES if frame else b"") + data
            frame += head + data + reader.demand(-size % 4)
            part = following
        yield frame, payload
        reader.number += 1


def _tfrecords(reader: _Exact) -> Iterator[_Frame]:
    while True:
        head = reader.take(_TFRECORD.size)
        if not head:
            return
        size = _TFRECORD.unpack(head)[0]
        reader.check(len(head) + size + _TFRECORD_FOOTER_BYTES)
        data = reader.demand(size)
        yield head + data + reader.demand(_TFRECORD_FOOTER_BYTES), data
        reader.number += 1


def _frames_apart(frames: Iterator[_Frame]) -> Iterator[Batch]:
    """CreateTransformJob: with SingleRecord the padding around a binary record is removed."""
    for number, (_, payload) in enumerate(frames, 1):
        yield Batch(payload, number, 1)


def _frames_together(frames: Iterator[_Frame], bytes_max: int) -> Iterator[Batch]:
    parts: list[bytes] = []
    size, first, number = 0, 1, 0
    for number, (frame, _) in enumerate(frames, 1):
        if parts and size + len(frame) > bytes_max:
            yield Batch(b"".join(parts), first, len(parts))
            parts, size, first = [], 0, number
        parts.append(frame)
        size += len(frame)
    if parts:
        yield Batch(b"".join(parts), first, len(parts))


# The way back -----------------------------------------------------------------------------------


def assembled(response: bytes, assemble: str) -> bytes:
    """What of a response goes into the output: AssembleWith Line ends it with one newline."""
    if assemble == "Line" and not response.endswith(b"\n"):
        return response + b"\n"
    return response
