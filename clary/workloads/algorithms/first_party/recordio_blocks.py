"""RecordIO-protobuf as float32 blocks: whole records, piece by piece.

Dense records of one width have one length, so a piece is cut by arithmetic; where records differ,
their headers are walked to find the last whole one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from clary.workloads.algorithms.first_party.errors import unreadable
from clary.workloads.algorithms.pieces import PIECE_BYTES, in_threads
from clary.workloads.formats import recordio_protobuf as recordio

RECORD_BYTES_MAX = 1 << 29
CONTENT_TYPE = "application/x-recordio-protobuf"


def blocks(stream: BinaryIO, name: str, channel: str) -> Iterator[tuple[Any, np.ndarray | None]]:
    """(features, labels) of one file, some thousands at a time; features are dense or CSR."""

    def with_places() -> Iterator[tuple[bytes, int]]:
        place = 0
        for piece in pieces(stream, name, channel):
            yield piece, place
            place += len(piece)

    def read(piece: bytes, place: int) -> tuple[Any, np.ndarray | None]:
        return _read(piece, name, channel, place)

    return in_threads(with_places(), read)


def pieces(stream: BinaryIO, name: str, channel: str) -> Iterator[bytes]:
    """The bytes of a stream, cut after records."""
    rest, consumed = b"", 0
    while data := stream.read(PIECE_BYTES):
        body = rest + data if rest else data
        end = _last_boundary(body, name, channel, consumed)
        if not end and len(body) > RECORD_BYTES_MAX:
            cause = f"'{name}': the record at byte {consumed} is too long"
            raise unreadable(channel, CONTENT_TYPE, cause)
        if end:
            yield body[:end]
        rest, consumed = body[end:], consumed + end
    if rest:
        yield rest  # a record that is cut off; reading it says so


def _last_boundary(body: bytes, name: str, channel: str, consumed: int) -> int:
    """How many bytes of the piece are whole records."""
    if len(body) < 8:
        return 0
    length = struct.unpack_from("<I", body, 4)[0]
    stride = 8 + length + (-length % 4)
    count = len(body) // stride
    if count > 1 and length < RECORD_BYTES_MAX:
        heads = np.frombuffer(body, np.uint8, count * stride).reshape(count, stride)[:, :8]
        if (heads == heads[0]).all():
            return count * stride
    at = 0
    while at + 8 <= len(body):
        magic, word = struct.unpack_from("<II", body, at)
        if magic != recordio.MAGIC:
            cause = (
                f"'{name}': the header of the RecordIO record at byte {consumed + at} does not "
                "start with a valid magic number"
            )
            raise unreadable(channel, CONTENT_TYPE, cause)
        # The parts of a split record (first and middle ones) stay together.
        length, part = word & 0x1FFFFFFF, word >> 29
        after = at + 8 + length + (-length % 4)
        if after > len(body):
            break
        if part in (1, 2):
            after = _end_of_split(body, after)
            if not after:
                break
        at = after
    return at


def _end_of_split(body: bytes, at: int) -> int:
    """Where the last part of a split record ends; 0 where the piece ends before it."""
    while at + 8 <= len(body):
        word = struct.unpack_from("<I", body, at + 4)[0]
        length = word & 0x1FFFFFFF
        at += 8 + length + (-length % 4)
        if at > len(body):
            return 0
        if word >> 29 != 2:
            return at
    return 0


def _read(piece: bytes, name: str, channel: str, consumed: int) -> tuple[Any, np.ndarray | None]:
    try:
        features, labels = recordio.read_matrix(piece)
    except (recordio.RecordError, OverflowError, MemoryError) as problem:
        cause = f"'{name}', from byte {consumed}: {problem}"
        raise unreadable(channel, CONTENT_TYPE, cause) from problem
    numbers = features if isinstance(features, np.ndarray) else features.data
    if not np.isfinite(numbers.sum(dtype=np.float64)) and not np.isfinite(numbers).all():
        cause = f"'{name}', from byte {consumed}: a feature is not a finite number"
        raise unreadable(channel, CONTENT_TYPE, cause)
    if labels is not None and not np.isfinite(labels).all():
        cause = f"'{name}', from byte {consumed}: a label is not a finite number"
        raise unreadable(channel, CONTENT_TYPE, cause)
    return features.astype(np.float32, copy=False), labels
