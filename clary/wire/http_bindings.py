"""Members that travel beside the body: URI labels, query strings, headers, the status."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from clary.wire.coerce import Malformed, read_base64
from clary.wire.routes import QueryFields
from clary.wire.text import TextReader, TextWriter, text_reader, text_writer
from clary.wire.timestamps import to_http_date
from clary.wire.tree import wire_name

# One item of a header list: quoted, with backslash escapes, or plain up to the next comma.
HEADER_ITEM = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*))\s*(?:,|$)')
CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

Source = tuple[dict[str, str], QueryFields, Mapping[str, str]]  # labels, query, headers
Take = Callable[[Source, dict[str, Any]], None]
Give = Callable[[Any, dict[str, str]], None]


class InputBindings:
    """Reads the members of one input shape that the body does not carry.

    `literals` are parameters of the query string that are part of the operation's own URI.
    """

    def __init__(self, shape: StructureShape, literals: Iterable[str] = ()) -> None:
        taken = frozenset(literals) | {
            wire_name(name, member)
            for name, member in shape.members.items()
            if member.serialization.get("location") == "querystring"
        }
        self._takes: list[Take] = []
        for name, member in shape.members.items():
            make = TAKERS.get(member.serialization.get("location", ""))
            if make is not None:
                self._takes.append(make(name, member, taken))

    def read(
        self, labels: dict[str, str], query: QueryFields, headers: Mapping[str, str]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for take in self._takes:
            take((labels, query, headers), found)
        return found


def label_taker(name: str, shape: Shape, _taken: frozenset[str]) -> Take:
    wire, read = wire_name(name, shape), text_reader(shape)

    def take(source: Source, found: dict[str, Any]) -> None:
        if wire in source[0]:
            found[name] = read(source[0][wire])

    return take


def query_taker(name: str, shape: Shape, taken: frozenset[str]) -> Take:
    wire = wire_name(name, shape)
    if isinstance(shape, MapShape):
        return query_map_taker(name, shape, taken)
    read = text_reader(shape.member if isinstance(shape, ListShape) else shape)

    def take_list(source: Source, found: dict[str, Any]) -> None:
        if wire in source[1]:
            found[name] = [read(text) for text in source[1][wire]]

    def take(source: Source, found: dict[str, Any]) -> None:
        if wire in source[1]:
            found[name] = read(source[1][wire][-1])

    return take_list if isinstance(shape, ListShape) else take


def query_map_taker(name: str, shape: MapShape, taken: frozenset[str]) -> Take:
    """A map in the query string holds every parameter that no other member claims."""
    many = isinstance(shape.value, ListShape)
    read = text_reader(shape.value.member if isinstance(shape.value, ListShape) else shape.value)

    def take(source: Source, found: dict[str, Any]) -> None:
        rest = {
            key: [read(text) for text in texts] if many else read(texts[-1])
            for key, texts in source[1].items()
            if key not in taken
        }
        if rest:
            found[name] = rest

    return take


def header_taker(name: str, shape: Shape, _taken: frozenset[str]) -> Take:
    wire, read = wire_name(name, shape).lower(), header_reader(shape)

    def take(source: Source, found: dict[str, Any]) -> None:
        text = source[2].get(wire)
        if text is not None:
            found[name] = read(text)

    return take


def header_map_taker(name: str, shape: Shape, _taken: frozenset[str]) -> Take:
    prefix = wire_name(name, shape).lower()

    def take(source: Source, found: dict[str, Any]) -> None:
        rest = {
            key[len(prefix) :]: text for key, text in source[2].items() if key.startswith(prefix)
        }
        if rest:
            found[name] = rest

    return take


TAKERS: dict[str, Callable[[str, Shape, frozenset[str]], Take]] = {
    "uri": label_taker,
    "querystring": query_taker,
    "header": header_taker,
    "headers": header_map_taker,
}


def header_reader(shape: Shape) -> TextReader:
    if shape.serialization.get("jsonvalue"):
        return json_from_header
    if isinstance(shape, ListShape):
        read = text_reader(shape.member)
        dates = shape.member.type_name == "timestamp"
        return lambda text: [read(item) for item in header_items(text, dates)]
    return text_reader(shape)


def json_from_header(text: str) -> Any:
    try:
        return json.loads(read_base64(text))
    except (ValueError, RecursionError) as problem:
        raise Malformed("A header does not hold JSON in base64") from problem


def header_items(text: str, dates: bool) -> list[str]:
    """Split at commas outside quotes; an HTTP date has a comma of its own."""
    items: list[str] = []
    position = 0
    while position < len(text):
        found = HEADER_ITEM.match(text, position)
        if found is None:
            raise Malformed("A header list cannot be read")
        quoted, bare = found.groups()
        items.append(bare.strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        position = found.end()
    if dates and any(not item[-1:].isalnum() or item.isalpha() for item in items):
        return [", ".join(pair) for pair in zip(items[::2], items[1::2], strict=False)]
    return items


class OutputBindings:
    """Writes the members of one output or error shape that the body does not carry."""

    def __init__(self, shape: StructureShape) -> None:
        self._gives: dict[str, Give] = {}
        self._status: str | None = None
        for name, member in shape.members.items():
            location = member.serialization.get("location")
            if location == "statusCode":
                self._status = name
            elif location == "header":
                self._gives[name] = header_giver(wire_name(name, member), member)
            elif location == "headers":
                self._gives[name] = header_map_giver(wire_name(name, member))

    def split(
        self, output: dict[str, Any], headers: dict[str, str]
    ) -> tuple[int | None, dict[str, Any]]:
        """Fill `headers`; return the bound status, if any, and the members left for the body."""
        status: int | None = None
        body: dict[str, Any] = {}
        for name, value in output.items():
            give = self._gives.get(name)
            if name == self._status:
                status = value
            elif give is None:
                body[name] = value
            elif value is not None:
                give(value, headers)
        return status, body


def header_giver(wire: str, shape: Shape) -> Give:
    write = header_writer(shape)

    def give(value: Any, headers: dict[str, str]) -> None:
        headers[wire] = header_text(write(value))

    return give


def header_map_giver(prefix: str) -> Give:
    def give(value: Any, headers: dict[str, str]) -> None:
        for key, text in value.items():
            headers[header_text(prefix + key)] = header_text(text)

    return give


def header_text(text: str) -> str:
    if CONTROLS.search(text):
        raise ValueError("a header may not hold control characters")
    return text


def header_writer(shape: Shape) -> TextWriter:
    if shape.serialization.get("jsonvalue"):
        return json_header_text
    if isinstance(shape, ListShape):
        write = text_writer(shape.member, to_http_date)
        quotable = shape.member.type_name == "string"
        return lambda items: ",".join(
            quoted(text) if quotable else text for text in map(write, items)
        )
    return text_writer(shape, to_http_date)


def json_header_text(value: Any) -> str:
    return base64.b64encode(json.dumps(value, separators=(",", ":")).encode()).decode()


def quoted(text: str) -> str:
    if '"' not in text and "," not in text:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
