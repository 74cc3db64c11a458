"""The binary event stream of AWS: framed, checksummed messages with typed headers.

total length │ headers length │ CRC of those 8 bytes │ headers │ payload │ CRC of all before
     4       │       4        │          4           │         │         │        4
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from zlib import crc32

from clary.wire.coerce import Malformed, write_bytes, write_string
from clary.wire.timestamps import from_epoch, moment

if TYPE_CHECKING:
    # The door frames events by the functions below and has no other use for botocore.
    from botocore.model import Shape, StructureShape

EVENT_STREAM = "application/vnd.amazon.eventstream"
MESSAGE_BYTES_MAX = 24 * 1024 * 1024
HEADERS_BYTES_MAX = 128 * 1024
PRELUDE = struct.Struct(">III")
CRC = struct.Struct(">I")
OVERHEAD = PRELUDE.size + CRC.size
# Sizes and layouts of the header types 2 to 5, all signed integers, and 8, a timestamp.
NUMBERS = {
    2: struct.Struct(">b"),
    3: struct.Struct(">h"),
    4: struct.Struct(">i"),
    5: struct.Struct(">q"),
}
LENGTH = struct.Struct(">H")

HeaderValue = bool | int | str | bytes | datetime
Encode = Callable[[Any], bytes]


@dataclass(frozen=True, slots=True)
class Message:
    headers: dict[str, HeaderValue]
    payload: bytes = b""


def encode_message(headers: Mapping[str, HeaderValue], payload: bytes = b"") -> bytes:
    """One frame; ValueError where a header or the whole does not fit one."""
    packed = b"".join(encode_header(name, value) for name, value in headers.items())
    total = OVERHEAD + len(packed) + len(payload)
    if len(packed) > HEADERS_BYTES_MAX or total > MESSAGE_BYTES_MAX:
        raise ValueError(f"an event of {total} bytes is larger than a message may be")
    lengths = struct.pack(">II", total, len(packed))
    frame = b"".join((lengths, CRC.pack(crc32(lengths)), packed, payload))
    return frame + CRC.pack(crc32(frame))


def encode_header(name: str, value: HeaderValue) -> bytes:
    label = name.encode()
    if not 0 < len(label) < 256:
        raise ValueError(f"{name!r} is not the name of an event header")
    return bytes((len(label),)) + label + encode_header_value(value)


def encode_header_value(value: HeaderValue) -> bytes:
    match value:
        case bool():
            return b"\0" if value else b"\1"
        case int():
            return (
                b"\4" + NUMBERS[4].pack(value)
                if -(2**31) <= value < 2**31
                else b"\5" + NUMBERS[5].pack(value)
            )
        case datetime():
            return b"\x08" + NUMBERS[5].pack(round(moment(value).timestamp() * 1000))
        case str():
            return b"\7" + sized(value.encode())
        case bytes():
            return b"\6" + sized(value)


def sized(data: bytes) -> bytes:
    if len(data) > 32767:
        raise ValueError("an event header is larger than 32767 bytes")
    return LENGTH.pack(len(data)) + data


def decode_messages(data: bytes) -> Iterator[Message]:
    """The frames of a whole stream; Malformed at the first that is not one."""
    position = 0
    while position < len(data):
        message, used = decode_message(memoryview(data)[position:])
        yield message
        position += used


def decode_message(data: bytes | memoryview) -> tuple[Message, int]:
    """The first frame and its length."""
    if len(data) < OVERHEAD:
        raise Malformed("An event stream message is cut short")
    total, headers_length, checksum = PRELUDE.unpack_from(data)
    if checksum != crc32(data[:8]):
        raise Malformed("The prelude of an event stream message fails its checksum")
    if total > MESSAGE_BYTES_MAX or total < OVERHEAD + headers_length:
        raise Malformed("The lengths of an event stream message contradict each other")
    if len(data) < total:
        raise Malformed("An event stream message is cut short")
    body = bytes(data[: total - CRC.size])
    if CRC.unpack_from(data, total - CRC.size)[0] != crc32(body):
        raise Malformed("An event stream message fails its checksum")
    end = PRELUDE.size + headers_length
    return Message(decode_headers(body[PRELUDE.size : end]), body[end:]), total


def decode_headers(data: bytes) -> dict[str, HeaderValue]:
    headers: dict[str, HeaderValue] = {}
    position = 0
    try:
        while position < len(data):
            start = position + 1
            position = start + data[position]
            name = data[start:position].decode()
            headers[name], position = decode_header_value(data, position)
    except (IndexError, struct.error, UnicodeDecodeError) as problem:
        raise Malformed("The headers of an event stream message cannot be read") from problem
    return headers


def decode_header_value(data: bytes, position: int) -> tuple[HeaderValue, int]:
    kind = data[position]
    position += 1
    if kind < 2:
        return kind == 0, position
    if kind in NUMBERS:
        return NUMBERS[kind].unpack_from(data, position)[0], position + NUMBERS[kind].size
    if kind in (6, 7):
        start = position + LENGTH.size
        end = start + LENGTH.unpack_from(data, position)[0]
        if end > len(data):
            raise IndexError(end)
        return (data[start:end] if kind == 6 else data[start:end].decode()), end
    if kind == 8:
        return from_epoch(NUMBERS[5].unpack_from(data, position)[0] / 1000), position + 8
    if kind == 9 and position + 16 <= len(data):
        return data[position : position + 16].hex(), position + 16
    raise Malformed(f"Event stream header type {kind} is unknown")


@dataclass(frozen=True, slots=True)
class EventPlan:
    """How one event's members are spread over headers and payload."""

    name: str
    headers: frozenset[str]
    payload: str | None  # the member that is the whole payload
    content_type: str | None
    encode: Encode  # of the payload member's value, or of the dict of the rest
    exception: bool


class EventWriter:
    """Writes the events of one operation's output with its protocol's `writer` and `dumps`."""

    def __init__(
        self,
        output: StructureShape,
        writer: Callable[[Shape], Callable[[Any], Any]],
        dumps: Encode,
        content_type: str,
    ) -> None:
        self._member = str(output.event_stream_name)
        stream = output.members[self._member]
        assert stream.type_name == "structure"
        self._content_type = content_type
        self._dumps = dumps
        self._initial = {
            name: writer(shape)
            for name, shape in output.members.items()
            if name != self._member and "location" not in shape.serialization
        }
        self._plans = {
            name: event_plan(name, cast("StructureShape", shape), writer, dumps, content_type)
            for name, shape in cast("StructureShape", stream).members.items()
            if shape.type_name == "structure"
        }

    def body(self, output: dict[str, Any], *, with_initial: bool) -> bytes:
        """A whole stream; RPC protocols begin it with the members that are not events."""
        events = output.get(self._member)
        frames = [self.initial(output)] if with_initial else []
        if isinstance(events, bytes | bytearray):
            return b"".join([*frames, bytes(events)])
        return b"".join([*frames, *self.encode(events or ())])

    def encode(self, events: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
        """One frame for each `{event name: members}`, as it comes: usable on an endless stream."""
        for event in events:
            for name, members in event.items():
                yield self.event(name, members)

    def initial(self, output: Mapping[str, Any]) -> bytes:
        tree = {
            name: self._initial[name](value)
            for name, value in output.items()
            if name != self._member and value is not None
        }
        headers = {
            ":event-type": "initial-response",
            ":content-type": self._content_type,
            ":message-type": "event",
        }
        return encode_message(headers, self._dumps(tree))

    def event(self, name: str, members: Mapping[str, Any]) -> bytes:
        """One event or modelled exception; ValueError where the stream has none of that name."""
        plan = self._plans.get(name)
        if plan is None:
            raise ValueError(f"{self._member} has no event {name!r}")
        kind = "exception" if plan.exception else "event"
        headers: dict[str, HeaderValue] = {f":{kind}-type": name}
        if plan.content_type:
            headers[":content-type"] = plan.content_type
        headers[":message-type"] = kind
        for member in plan.headers & members.keys():
            if members[member] is not None:
                headers[member] = members[member]
        if plan.payload is not None:
            unknown = members.keys() - plan.headers - {plan.payload}
            if unknown:
                raise ValueError(f"{name} has no members {sorted(unknown)}")
            value = members.get(plan.payload)
            return encode_message(headers, b"" if value is None else plan.encode(value))
        rest = {key: value for key, value in members.items() if key not in plan.headers}
        return encode_message(headers, plan.encode(rest))


def encode_error(code: str, message: str) -> bytes:
    """An error that the stream's model does not know; it ends the stream."""
    headers = {":message-type": "error", ":error-code": code, ":error-message": message}
    return encode_message(headers)


def event_plan(
    name: str,
    shape: StructureShape,
    writer: Callable[[Shape], Callable[[Any], Any]],
    dumps: Encode,
    content_type: str,
) -> EventPlan:
    members = shape.members
    headers = frozenset(m for m, s in members.items() if s.serialization.get("eventheader"))
    payload = next((m for m, s in members.items() if s.serialization.get("eventpayload")), None)
    kind: str | None = content_type
    if payload is None:
        if not members.keys() - headers and not shape.metadata.get("exception"):
            kind = None
        encode = composed(writer(shape), dumps)
    elif members[payload].type_name == "blob":
        kind, encode = "application/octet-stream", write_bytes
    elif members[payload].type_name == "string":
        kind, encode = "text/plain", encode_text
    else:
        encode = composed(writer(members[payload]), dumps)
    return EventPlan(name, headers, payload, kind, encode, bool(shape.metadata.get("exception")))


def composed(write: Callable[[Any], Any], dumps: Encode) -> Encode:
    def encode(value: Any) -> bytes:
        return dumps(write(value))

    return encode


def encode_text(value: Any) -> bytes:
    return write_string(value).encode()
