"""Readers and writers of values that travel as trees (JSON, CBOR), compiled once per shape.

A compiled closure costs one call per value; walking the model anew for every request costs many
times as much. A compiler object is not safe for two threads at once (see `plans.py`); the closures
it returns are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from clary.wire.coerce import (
    LIST_FOUND,
    STRUCTURE_FOUND,
    Malformed,
    mismatch,
    read_base64,
    read_boolean,
    read_float,
    read_integer,
    read_long,
    read_string,
    write_base64,
    write_boolean,
    write_integer,
    write_json_float,
    write_string,
)
from clary.wire.timestamps import FORMATS, from_epoch, from_text, to_epoch

Reader = Callable[[Any], Any]
Writer = Callable[[Any], Any]


def read_json_timestamp(value: Any) -> Any:
    if type(value) is float or type(value) is int:
        return from_epoch(value)
    if type(value) is str:
        try:
            return from_text(value)
        except Malformed as problem:
            raise mismatch(value, "milliseconds since epoch") from problem
    raise mismatch(value, "milliseconds since epoch")


def json_timestamp_writer(shape: Shape) -> Writer:
    wanted = str(shape.serialization.get("timestampFormat", "unixTimestamp")).lower()
    return to_epoch if wanted == "unixtimestamp" else FORMATS[wanted]


@dataclass(frozen=True, slots=True)
class Format:
    """How one format carries the types that are not the tree's own."""

    read_blob: Reader = read_base64
    read_timestamp: Reader = read_json_timestamp
    write_blob: Writer = write_base64
    write_float: Writer = write_json_float
    timestamp_writer: Callable[[Shape], Writer] = json_timestamp_writer


JSON = Format()


def wire_name(name: str, shape: Shape) -> str:
    return str(shape.serialization.get("name", name))


def body_members(shape: StructureShape) -> dict[str, Shape]:
    """The members that are not bound to the URI, a header or the status."""
    return {name: m for name, m in shape.members.items() if "location" not in m.serialization}


class TreeReaders:
    """Compiles shapes to functions from trees to native values."""

    def __init__(self, form: Format) -> None:
        self._scalars: dict[str, Reader] = {
            "string": read_string,
            "character": read_string,
            "integer": read_integer,
            "long": read_long,
            "float": read_float,
            "double": read_float,
            "boolean": read_boolean,
            "blob": form.read_blob,
            "timestamp": form.read_timestamp,
        }
        self._structures: dict[str, Reader] = {}

    def reader(self, shape: Shape) -> Reader:
        if isinstance(shape, StructureShape):
            return untouched if shape.is_document_type else self._structure(shape)
        if isinstance(shape, ListShape):
            return list_reader(self.reader(shape.member))
        if isinstance(shape, MapShape):
            return map_reader(self.reader(shape.value))
        return self._scalars[shape.type_name]

    def body(self, shape: StructureShape) -> Reader:
        """A reader of the members that the body carries."""
        members = body_members(shape)
        if len(members) == len(shape.members):
            return self._structure(shape)
        plan: dict[str, tuple[str, Reader | None]] = {}
        self._fill(plan, members)
        return structure_reader(plan)

    def _structure(self, shape: StructureShape) -> Reader:
        known = self._structures.get(shape.name)
        if known is None:
            plan: dict[str, tuple[str, Reader | None]] = {}
            # Registered before its members are compiled: a shape may contain itself.
            known = self._structures[shape.name] = structure_reader(plan)
            self._fill(plan, shape.members)
        return known

    def _fill(self, plan: dict[str, tuple[str, Reader | None]], members: dict[str, Shape]) -> None:
        for name, member in members.items():
            # Strings are most of every API: None spares them a call.
            reader = None if member.type_name == "string" else self.reader(member)
            plan[wire_name(name, member)] = (name, reader)


def untouched(value: Any) -> Any:
    return value


def structure_reader(plan: dict[str, tuple[str, Reader | None]]) -> Reader:
    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise Malformed(LIST_FOUND if type(value) is list else "Expected null")
        found: dict[str, Any] = {}
        for key, item in value.items():
            entry = plan.get(key)
            if entry is None or item is None:
                continue
            reader = entry[1]
            if reader is not None:
                found[entry[0]] = reader(item)
            elif type(item) is str:
                found[entry[0]] = item
            else:
                raise mismatch(item, "a String")
        return found

    return read


def list_reader(member: Reader) -> Reader:
    def read(value: Any) -> list[Any]:
        if type(value) is not list:
            raise Malformed(STRUCTURE_FOUND if type(value) is dict else "Expected list or null")
        return [member(item) for item in value]

    return read


def map_reader(value_reader: Reader) -> Reader:
    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise Malformed(LIST_FOUND if type(value) is list else "Expected map or null")
        return {key: value_reader(item) for key, item in value.items() if item is not None}

    return read


class TreeWriters:
    """Compiles shapes to functions from native values to trees; ValueError is a defect of ours."""

    def __init__(self, form: Format) -> None:
        self._form = form
        self._scalars: dict[str, Writer] = {
            "string": write_string,
            "character": write_string,
            "integer": write_integer,
            "long": write_integer,
            "float": form.write_float,
            "double": form.write_float,
            "boolean": write_boolean,
            "blob": form.write_blob,
        }
        self._structures: dict[str, Writer] = {}

    def writer(self, shape: Shape) -> Writer:
        if isinstance(shape, StructureShape):
            return untouched if shape.is_document_type else self._structure(shape)
        if isinstance(shape, ListShape):
            return list_writer(self.writer(shape.member))
        if isinstance(shape, MapShape):
            return map_writer(self.writer(shape.value))
        if shape.type_name == "timestamp":
            return self._form.timestamp_writer(shape)
        return self._scalars[shape.type_name]

    def body(self, shape: StructureShape) -> Writer:
        members = body_members(shape)
        if len(members) == len(shape.members):
            return self._structure(shape)
        plan: dict[str, tuple[str, Writer]] = {}
        self._fill(plan, members)
        return structure_writer(shape.name, plan)

    def _structure(self, shape: StructureShape) -> Writer:
        known = self._structures.get(shape.name)
        if known is None:
            plan: dict[str, tuple[str, Writer]] = {}
            known = self._structures[shape.name] = structure_writer(shape.name, plan)
            self._fill(plan, shape.members)
        return known

    def _fill(self, plan: dict[str, tuple[str, Writer]], members: dict[str, Shape]) -> None:
        for name, member in members.items():
            plan[name] = (wire_name(name, member), self.writer(member))


def structure_writer(shape_name: str, plan: dict[str, tuple[str, Writer]]) -> Writer:
    def write(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"{value!r:.80} is not a {shape_name}")
        found: dict[str, Any] = {}
        for name, item in value.items():
            entry = plan.get(name)
            if entry is None:
                raise ValueError(f"{shape_name} has no member {name!r}")
            if item is not None:
                try:
                    found[entry[0]] = entry[1](item)
                except ValueError as problem:
                    raise ValueError(f"{shape_name}.{name}: {problem}") from problem
        return found

    return write


def list_writer(member: Writer) -> Writer:
    def write(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{value!r:.80} is not a list")
        return [member(item) for item in value]

    return write


def map_writer(member: Writer) -> Writer:
    def write(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"{value!r:.80} is not a map")
        return {write_string(k): member(item) for k, item in value.items() if item is not None}

    return write
