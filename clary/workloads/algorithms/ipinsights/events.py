"""Pairs of an entity and an IPv4 address: eight bytes each, however long the entities' names are."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars

from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.first_party import csv_blocks
from clary.workloads.algorithms.first_party.errors import ClientError, unreadable

FOLDER_DEPTH_MAX = 32
_SHOWN_CHARACTERS = 40
_ADDRESS = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})", re.ASCII)
_CONTENT_TYPES = ("", "csv", csv_blocks.CONTENT_TYPE)


@dataclass(frozen=True)
class Events:
    """The entities' rows in the table of vectors, and the addresses as numbers."""

    entities: np.ndarray  # int64
    addresses: np.ndarray  # uint32

    @property
    def count(self) -> int:
        return len(self.entities)


def read(channel: Channel, rows: int) -> Events:
    """All pairs of a channel; raise ClientError with the place of the first wrong line."""
    if channel.content_type not in _CONTENT_TYPES:
        raise ClientError(
            f"No iterator has been registered for ContentType ('{channel.content_type}', '1.0'). "
            f"Channel '{channel.name}' takes {csv_blocks.CONTENT_TYPE}."
        )
    parts = []
    for path in channel.files(FOLDER_DEPTH_MAX):
        with path.open("rb") as stream:
            lines = 0
            for piece in csv_blocks.pieces(stream, path.name, channel.name):
                parts.append(_parsed(piece, path.name, channel.name, lines, rows))
                lines += piece.count(b"\n")
    empty = Events(np.empty(0, np.int64), np.empty(0, np.uint32))
    return Events(
        np.concatenate([part.entities for part in (empty, *parts)]),
        np.concatenate([part.addresses for part in (empty, *parts)]),
    )


def entity_rows(names: Iterable[str], rows: int) -> np.ndarray:
    """Where the vectors of entities are: names are hashed, so that new ones need no list."""
    return np.fromiter((zlib.crc32(name.encode()) % rows for name in names), dtype=np.int64)


def address_number(text: str) -> int:
    """`1.2.3.4` as a number; raise ValueError."""
    match = _ADDRESS.fullmatch(text.strip())
    octets = [int(word) for word in match.groups()] if match else []
    if not octets or max(octets) > 255:
        raise ValueError(f"{text[:_SHOWN_CHARACTERS]!r} is not an IPv4 address")
    return int.from_bytes(bytes(octets), "big")


def address_bits(addresses: Any) -> np.ndarray:
    """The 32 bits of each address as -1 and 1, the most significant first."""
    octets = np.ascontiguousarray(addresses).astype(">u4").view(np.uint8).reshape(-1, 4)
    return np.unpackbits(octets, axis=1).astype(np.float32) * 2 - 1


def _parsed(piece: bytes, name: str, channel: str, lines_before: int, rows: int) -> Events:
    try:
        frame = polars.read_csv(
            piece,
            has_header=False,
            schema={"entity": polars.String, "address": polars.String},
            missing_utf8_is_empty_string=True,
        )
    except polars.exceptions.PolarsError:
        return _parsed_carefully(piece, name, channel, lines_before, rows)
    words = frame["address"].str.strip_chars().str.split_exact(".", 3).struct.unnest()
    octets = words.select(polars.all().cast(polars.UInt8, strict=False))
    wrong = octets.null_count().sum_horizontal().item()
    if (
        wrong
        or (frame["entity"] == "").any()
        or (frame["address"].str.count_matches(r"\.") != 3).any()
    ):
        return _parsed_carefully(piece, name, channel, lines_before, rows)
    distinct = frame["entity"].unique(maintain_order=True)
    places = polars.Series("row", entity_rows(distinct.to_list(), rows))
    entities = frame["entity"].replace_strict(distinct, places, return_dtype=polars.Int64)
    numbers = octets.to_numpy().astype(np.uint32)
    addresses = numbers @ np.array([1 << 24, 1 << 16, 1 << 8, 1], dtype=np.uint32)
    return Events(entities.to_numpy(), addresses)


def _parsed_carefully(
    piece: bytes, name: str, channel: str, lines_before: int, rows: int
) -> Events:
    """Line by line; blank lines do not count, and whatever else is wrong is told."""
    names, numbers = [], []
    stream = io.StringIO(piece.decode("utf-8", "replace"), newline=None)
    for at, line in enumerate(stream, lines_before + 1):
        if not line.strip():
            continue
        try:
            entity, address = pair(line.rstrip("\n").split(","))
            numbers.append(address)
        except ValueError as problem:
            cause = f"'{name}', line {at}: {problem}"
            raise unreadable(channel, csv_blocks.CONTENT_TYPE, cause) from None
        names.append(entity)
    return Events(entity_rows(names, rows), np.array(numbers, dtype=np.uint32))


def pair(fields: list[Any]) -> tuple[str, int]:
    """An entity and the number of its address; raise ValueError."""
    if len(fields) != 2:
        raise ValueError(f"{len(fields)} columns, where an entity and an IPv4 address belong")
    entity = str(fields[0]).strip('"')
    if not entity:
        raise ValueError("the entity is missing")
    return entity, address_number(str(fields[1]).strip().strip('"'))
