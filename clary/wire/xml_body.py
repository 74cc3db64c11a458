"""Readers and writers of XML bodies, compiled once per shape (see `tree.py` for the why)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from botocore.model import ListShape, MapShape, Shape, StructureShape

from clary.wire.text import TextWriter, text_reader, text_writer
from clary.wire.timestamps import to_iso
from clary.wire.tree import body_members, wire_name
from clary.wire.xml_text import escape, local

XmlReader = Callable[[Element], Any]
XmlWriter = Callable[[Any, list[str]], None]


@dataclass(slots=True)
class ReadPlan:
    """The members of one structure by the name of their element or attribute."""

    elements: dict[str, tuple[str, XmlReader, str]] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)


class XmlReaders:
    """Compiles shapes to functions from elements to native values."""

    def __init__(self) -> None:
        self._structures: dict[str, XmlReader] = {}

    def reader(self, shape: Shape) -> XmlReader:
        if isinstance(shape, StructureShape):
            return self._structure(shape)
        if isinstance(shape, ListShape):
            return list_reader(self.reader(shape.member))
        if isinstance(shape, MapShape):
            entry = self._entry(shape)
            return lambda node: dict(pair for child in node if (pair := entry(child)))
        read = text_reader(shape)
        return lambda node: read(node.text or "")

    def body(self, shape: StructureShape) -> XmlReader:
        plan = ReadPlan()
        self._fill(plan, body_members(shape))
        return structure_reader(plan)

    def _structure(self, shape: StructureShape) -> XmlReader:
        known = self._structures.get(shape.name)
        if known is None:
            plan = ReadPlan()
            known = self._structures[shape.name] = structure_reader(plan)
            self._fill(plan, shape.members)
        return known

    def _fill(self, plan: ReadPlan, members: dict[str, Shape]) -> None:
        for name, member in members.items():
            wire = wire_name(name, member)
            if member.serialization.get("xmlAttribute"):
                plan.attributes[wire.rpartition(":")[2]] = name
            elif not member.serialization.get("flattened"):
                plan.elements[wire] = (name, self.reader(member), "one")
            elif isinstance(member, ListShape):
                reader = self.reader(member.member)
                plan.elements[wire] = (name, reader, "many")
                plan.elements.setdefault(wire_name(wire, member.member), (name, reader, "many"))
            elif isinstance(member, MapShape):
                plan.elements[wire] = (name, self._entry(member), "pairs")

    def _entry(self, shape: MapShape) -> XmlReader:
        """A reader of one entry of a map: a pair, or None where half of it is missing."""
        key_name, value_name = wire_name("key", shape.key), wire_name("value", shape.value)
        read_key, read_value = self.reader(shape.key), self.reader(shape.value)

        def read(node: Element) -> tuple[str, Any] | None:
            parts = {local(child.tag): child for child in node}
            if key_name not in parts or value_name not in parts:
                return None
            return read_key(parts[key_name]), read_value(parts[value_name])

        return read


def list_reader(member: XmlReader) -> XmlReader:
    def read(node: Element) -> list[Any]:
        return [member(child) for child in node]

    return read


def structure_reader(plan: ReadPlan) -> XmlReader:
    def read(node: Element) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for child in node:
            entry = plan.elements.get(local(child.tag))
            if entry is None:
                continue
            name, reader, amount = entry
            value = reader(child)
            if amount == "one":
                found[name] = value
            elif amount == "many":
                found.setdefault(name, []).append(value)
            elif value is not None:
                found.setdefault(name, {})[value[0]] = value[1]
        if plan.attributes:
            for key, value in node.attrib.items():
                member = plan.attributes.get(local(key))
                if member is not None:
                    found[member] = value
        return found

    return read


@dataclass(slots=True)
class WritePlan:
    """The members of one structure: attributes of its own tag, and elements."""

    shape_name: str
    attributes: dict[str, tuple[str, TextWriter]] = field(default_factory=dict)
    elements: dict[str, XmlWriter] = field(default_factory=dict)


class XmlWriters:
    """Compiles shapes to functions that append XML; ValueError marks a defect of ours."""

    def __init__(self, timestamp: TextWriter = to_iso) -> None:
        self._timestamp = timestamp
        self._structures: dict[str, WritePlan] = {}

    def element(self, shape: Shape, name: str, attributes: str = "") -> XmlWriter:
        """A writer of `<name>value</name>`; `attributes` is ready text such as a namespace.

        A structure without a name is written as its bare members.
        """
        attributes += namespace(shape)
        if isinstance(shape, StructureShape):
            return structure_writer(self._structure(shape), name, attributes)
        if isinstance(shape, ListShape):
            member_name = wire_name("member", shape.member)
            return list_writer(self.element(shape.member, member_name), name, attributes)
        if isinstance(shape, MapShape):
            return map_writer(self._entry(shape, "entry"), name, attributes)
        return scalar_writer(text_writer(shape, self._timestamp), name, attributes)

    def body(self, shape: StructureShape, name: str, attributes: str = "") -> XmlWriter:
        plan = WritePlan(shape.name)
        self._fill(plan, body_members(shape))
        return structure_writer(plan, name, attributes + namespace(shape))

    def _structure(self, shape: StructureShape) -> WritePlan:
        plan = self._structures.get(shape.name)
        if plan is None:
            plan = self._structures[shape.name] = WritePlan(shape.name)
            self._fill(plan, shape.members)
        return plan

    def _fill(self, plan: WritePlan, members: dict[str, Shape]) -> None:
        for name, member in members.items():
            wire = wire_name(name, member)
            if member.serialization.get("xmlAttribute"):
                plan.attributes[name] = (wire, text_writer(member, self._timestamp))
            elif not member.serialization.get("flattened"):
                plan.elements[name] = self.element(member, wire)
            elif isinstance(member, ListShape):
                # Named after its member where that has a name, as the parsers of the SDKs expect.
                element = wire_name(wire, member.member)
                plan.elements[name] = repeated(self.element(member.member, element))
            elif isinstance(member, MapShape):
                plan.elements[name] = repeated_pairs(self._entry(member, wire))

    def _entry(self, shape: MapShape, name: str) -> Callable[[Any, Any, list[str]], None]:
        write_key = self.element(shape.key, wire_name("key", shape.key))
        write_value = self.element(shape.value, wire_name("value", shape.value))

        def write(key: Any, value: Any, out: list[str]) -> None:
            out.append(f"<{name}>")
            write_key(key, out)
            write_value(value, out)
            out.append(f"</{name}>")

        return write


def namespace(shape: Shape) -> str:
    found = shape.serialization.get("xmlNamespace")
    return namespace_text(found) if found else ""


def namespace_text(found: Any) -> str:
    """The attribute for a model's `xmlNamespace`, which is a URI or a mapping."""
    if isinstance(found, str):
        return f' xmlns="{escape(found)}"'
    prefix = f":{found['prefix']}" if found.get("prefix") else ""
    return f' xmlns{prefix}="{escape(found["uri"])}"'


def scalar_writer(text: TextWriter, name: str, attributes: str) -> XmlWriter:
    opening, closing = f"<{name}{attributes}>", f"</{name}>"

    def write(value: Any, out: list[str]) -> None:
        out.append(f"{opening}{escape(text(value))}{closing}")

    return write


def structure_writer(plan: WritePlan, name: str, attributes: str) -> XmlWriter:
    opening, closing = f"<{name}{attributes}", f"</{name}>"

    def write(value: Any, out: list[str]) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{value!r:.80} is not a {plan.shape_name}")
        if not name:
            write_members(value, out)
            return
        tag = opening
        for member, (attribute, text) in plan.attributes.items():
            if value.get(member) is not None:
                tag += f' {attribute}="{escape(text(value[member]))}"'
        out.append(f"{tag}>")
        write_members(value, out)
        out.append(closing)

    def write_members(value: dict[str, Any], out: list[str]) -> None:
        for member, item in value.items():
            writer = plan.elements.get(member)
            if writer is None:
                if member not in plan.attributes:
                    raise ValueError(f"{plan.shape_name} has no member {member!r}")
            elif item is not None:
                try:
                    writer(item, out)
                except ValueError as problem:
                    raise ValueError(f"{plan.shape_name}.{member}: {problem}") from problem

    return write


def list_writer(member: XmlWriter, name: str, attributes: str) -> XmlWriter:
    write_members = repeated(member)

    def write(value: Any, out: list[str]) -> None:
        out.append(f"<{name}{attributes}>")
        write_members(value, out)
        out.append(f"</{name}>")

    return write


def repeated(member: XmlWriter) -> XmlWriter:
    def write(value: Any, out: list[str]) -> None:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{value!r:.80} is not a list")
        for item in value:
            member(item, out)

    return write


def map_writer(
    entry: Callable[[Any, Any, list[str]], None], name: str, attributes: str
) -> XmlWriter:
    write_pairs = repeated_pairs(entry)

    def write(value: Any, out: list[str]) -> None:
        out.append(f"<{name}{attributes}>")
        write_pairs(value, out)
        out.append(f"</{name}>")

    return write


def repeated_pairs(entry: Callable[[Any, Any, list[str]], None]) -> XmlWriter:
    def write(value: Any, out: list[str]) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{value!r:.80} is not a map")
        for key, item in value.items():
            if item is not None:
                entry(key, item, out)

    return write


def fault_elements(members: dict[str, Any]) -> str:
    """Members of an error that have no writer: elements of their text, nested as they are."""
    return "".join(f"<{name}>{fault_text(value)}</{name}>" for name, value in members.items())


def fault_text(value: Any) -> str:
    if isinstance(value, dict):
        return fault_elements(value)
    if isinstance(value, list | tuple):
        return "".join(f"<member>{fault_text(item)}</member>" for item in value)
    return ("true" if value else "false") if isinstance(value, bool) else escape(str(value))
