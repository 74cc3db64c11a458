"""The part of CBOR (RFC 8949) that Smithy RPC v2 uses, strict and bounded."""

from __future__ import annotations

import math
import struct
from datetime import datetime
from typing import Any

from clary.wire.coerce import Malformed
from clary.wire.timestamps import from_epoch, to_epoch

NESTING_MAX = 64
INDEFINITE = 31
BREAK = 0xFF
EPOCH_TAG = 1
SIMPLE = {20: False, 21: True, 22: None, 23: None}
FLOATS = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}
SIZES = {24: 1, 25: 2, 26: 4, 27: 8}
BYTES, TEXT, ARRAY, MAP, TAG = 2, 3, 4, 5, 6


def dumps(value: Any) -> bytes:
    """Encode a tree; ValueError for what CBOR (or Smithy) has no word for."""
    out = bytearray()
    encode(value, out)
    return bytes(out)


def encode(value: Any, out: bytearray) -> None:
    match value:
        case None:
            out.append(0xF6)
        case bool():
            out.append(0xF5 if value else 0xF4)
        case int():
            head(out, 0, value) if value >= 0 else head(out, 1, -1 - value)
        case float():
            encode_float(value, out)
        case str():
            data = value.encode()
            head(out, TEXT, len(data))
            out += data
        case bytes():
            head(out, BYTES, len(value))
            out += value
        case list() | tuple():
            head(out, ARRAY, len(value))
            for item in value:
                encode(item, out)
        case dict():
            head(out, MAP, len(value))
            for key, item in value.items():
                encode(key, out)
                encode(item, out)
        case datetime():
            head(out, TAG, EPOCH_TAG)
            encode(to_epoch(value), out)
        case _:
            raise ValueError(f"{value!r:.80} has no CBOR form")


def head(out: bytearray, major: int, number: int) -> None:
    first = major << 5
    if number < 24:
        out.append(first | number)
        return
    for information, size in SIZES.items():
        if number < 1 << (8 * size):
            out.append(first | information)
            out += number.to_bytes(size, "big")
            return
    raise ValueError(f"{number} does not fit 64 bits")


def encode_float(value: float, out: bytearray) -> None:
    """Half precision for NaN and infinities, else single where it loses nothing, else double."""
    if not math.isfinite(value):
        out.append(0xE0 | 25)
        out += FLOATS[25].pack(value)
    elif abs(value) < 3e38 and FLOATS[26].unpack(FLOATS[26].pack(value))[0] == value:
        out.append(0xE0 | 26)
        out += FLOATS[26].pack(value)
    else:
        out.append(0xE0 | 27)
        out += FLOATS[27].pack(value)


def loads(data: bytes) -> Any:
    """Decode one item that fills the data; Malformed for anything else."""
    decoder = Decoder(data)
    value = decoder.item(0)
    if decoder.position != len(data):
        raise Malformed("Data follows the CBOR item")
    return value


class Decoder:
    """A cursor over one item; lengths are checked against what is left before anything is made."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def item(self, depth: int) -> Any:
        if depth > NESTING_MAX:
            raise Malformed(f"CBOR is nested deeper than {NESTING_MAX}")
        first = self.take(1)[0]
        major, information = first >> 5, first & 31
        match major:
            case 0:
                return self.number(information)
            case 1:
                return -1 - self.number(information)
            case 2:
                return self.string(information, BYTES)
            case 3:
                try:
                    return self.string(information, TEXT).decode()
                except UnicodeDecodeError as problem:
                    raise Malformed("CBOR text is not UTF-8") from problem
            case 4:
                return self.array(information, depth + 1)
            case 5:
                return self.map(information, depth + 1)
            case 6:
                return self.tagged(information, depth + 1)
        return self.simple(information)

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise Malformed("CBOR ends too early")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def number(self, information: int) -> int:
        if information < 24:
            return information
        size = SIZES.get(information)
        if size is None:
            raise Malformed(f"CBOR length information {information} is not valid here")
        return int.from_bytes(self.take(size), "big")

    def string(self, information: int, major: int) -> bytes:
        if information != INDEFINITE:
            return self.take(self.number(information))
        chunks: list[bytes] = []
        while not self.at_break():
            first = self.take(1)[0]
            if first >> 5 != major:
                raise Malformed("A chunk of a CBOR string has another type")
            chunks.append(self.take(self.number(first & 31)))
        return b"".join(chunks)

    def array(self, information: int, depth: int) -> list[Any]:
        if information == INDEFINITE:
            items: list[Any] = []
            while not self.at_break():
                items.append(self.item(depth))
            return items
        return [self.item(depth) for _ in range(self.count(information, 1))]

    def map(self, information: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if information == INDEFINITE:
            while not self.at_break():
                self.pair(found, depth)
        else:
            for _ in range(self.count(information, 2)):
                self.pair(found, depth)
        return found

    def pair(self, found: dict[str, Any], depth: int) -> None:
        key = self.item(depth)
        if type(key) is not str:
            raise Malformed("A key of a CBOR map is not text")
        found[key] = self.item(depth)

    def count(self, information: int, bytes_each: int) -> int:
        count = self.number(information)
        if count * bytes_each > len(self.data) - self.position:
            raise Malformed("CBOR ends too early")
        return count

    def tagged(self, information: int, depth: int) -> datetime:
        tag = self.number(information)
        value = self.item(depth)
        if tag != EPOCH_TAG or type(value) not in (int, float):
            raise Malformed(f"CBOR tag {tag} is not supported")
        return from_epoch(value)

    def simple(self, information: int) -> bool | float | None:
        if information in SIMPLE:
            return SIMPLE[information]
        layout = FLOATS.get(information)
        if layout is None:
            raise Malformed(f"CBOR simple value {information} is not supported")
        return layout.unpack(self.take(layout.size))[0]

    def at_break(self) -> bool:
        if self.position < len(self.data) and self.data[self.position] == BREAK:
            self.position += 1
            return True
        return False
