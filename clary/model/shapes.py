"""Validation of a request against its shape, with the service's own wording.

botocore checks types and required members only; patterns, lengths, ranges and enums are left to the server.
A validator is compiled once per shape; a valid request costs a few microseconds.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape

from clary.model.errors import ValidationException
from clary.model.patterns import compile_pattern

Check = Callable[[Any, str, list[str]], None]
VALUE_CHARACTERS_MAX = 1_024  # of a rejected value that a message repeats


class Validators:
    """The compiled validators of one service; shapes may refer to themselves."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._compiling: set[str] = set()
        self._guard = (
            threading.RLock()
        )  # held by the thread that compiles, from the outermost shape on

    def validate(self, shape: Shape | None, value: Any) -> None:
        """Raise ValidationException counting every broken constraint; `value` is the parsed input."""
        if shape is None:
            return
        found: list[str] = []
        self._check(shape)(value, "", found)
        if found:
            count = "1 validation error" if len(found) == 1 else f"{len(found)} validation errors"
            raise ValidationException(f"{count} detected: {'; '.join(found)}")

    def _check(self, shape: Shape) -> Check:
        check = self._checks.get(shape.name)
        if check is not None:
            return check
        with self._guard:
            check = self._checks.get(shape.name)
            if check is not None:
                return check
            if shape.name in self._compiling:
                # The late look-up lets a recursive shape find itself.
                return lambda value, path, found: self._checks[shape.name](value, path, found)
            self._compiling.add(shape.name)
            try:
                check = self._checks[shape.name] = self._compile(shape)
            finally:
                self._compiling.discard(shape.name)
            return check

    def _compile(self, shape: Shape) -> Check:
        if isinstance(shape, StructureShape):
            return self._structure(shape)
        if isinstance(shape, ListShape):
            return self._list(shape)
        if isinstance(shape, MapShape):
            return self._map(shape)
        constraints = _constraints(shape)

        def check(value: Any, path: str, found: list[str]) -> None:
            for holds, text in constraints:
                if not holds(value):
                    found.append(_failure(value, path, text))

        return check if constraints else _accept

    def _structure(self, shape: StructureShape) -> Check:
        members = {name: self._check(member) for name, member in shape.members.items()}
        members = {name: check for name, check in members.items() if check is not _accept}
        required = tuple(shape.required_members)
        union = bool(getattr(shape, "is_tagged_union", False))
        names = {name: name[:1].lower() + name[1:] for name in shape.members}

        def check(value: Any, path: str, found: list[str]) -> None:
            prefix = f"{path}." if path else ""
            for name in required:
                if value.get(name) is None:
                    at = prefix + names[name]
                    found.append(
                        f"Value null at '{at}' failed to satisfy constraint: Member must not be null"
                    )
            for name, member in value.items():
                inner = members.get(name)
                if inner is not None and member is not None:
                    inner(member, prefix + names[name], found)
            if union and len(value) > 1:
                text = "Union member must be set exactly once"
                found.append(_failure(value, path, text))

        return check

    def _list(self, shape: ListShape) -> Check:
        own = _lengths(shape, "length")
        item = shape.member
        nested = isinstance(item, StructureShape | ListShape | MapShape)
        inner = self._check(item) if nested else _accept
        constraints = [] if nested else _constraints(item)

        def check(value: Any, path: str, found: list[str]) -> None:
            for holds, text in own:
                if not holds(value):
                    found.append(_failure(value, path, text))
            for position, one in enumerate(value, 1):
                if inner is not _accept:
                    inner(one, f"{path}.{position}.member", found)
                elif any(not holds(one) for holds, _ in constraints):
                    texts = ", ".join(text for _, text in constraints)
                    found.append(
                        _failure(value, path, f"Member must satisfy constraint: [{texts}]")
                    )
                    break

        return check if own or constraints or inner is not _accept else _accept

    def _map(self, shape: MapShape) -> Check:
        own = _lengths(shape, "length")
        keys = _constraints(shape.key)
        nested = isinstance(shape.value, StructureShape | ListShape | MapShape)
        inner = self._check(shape.value) if nested else _accept
        values = [] if nested else _constraints(shape.value)

        def check(value: Any, path: str, found: list[str]) -> None:
            for holds, text in own:
                if not holds(value):
                    found.append(_failure(value, path, text))
            for what, constraints, members in (
                ("keys", keys, value),
                ("value", values, value.values()),
            ):
                if any(not holds(one) for one in members for holds, _ in constraints):
                    texts = ", ".join(text for _, text in constraints)
                    found.append(
                        _failure(value, path, f"Map {what} must satisfy constraint: [{texts}]")
                    )
            if inner is not _accept:
                for key, one in value.items():
                    inner(one, f"{path}.{key}.member", found)

        return check if own or keys or values or inner is not _accept else _accept


def _accept(value: Any, path: str, found: list[str]) -> None:
    """A shape without constraints."""


def _constraints(shape: Shape) -> list[tuple[Callable[[Any], bool], str]]:
    if isinstance(shape, StringShape) or shape.type_name == "string":
        return _lengths(shape, "length") + _enum(shape) + _pattern(shape)
    if shape.type_name in ("integer", "long", "float", "double"):
        return _lengths(shape, "value")
    if shape.type_name == "blob":
        return _lengths(shape, "length")
    return []


def _lengths(shape: Shape, what: str) -> list[tuple[Callable[[Any], bool], str]]:
    constraints: list[tuple[Callable[[Any], bool], str]] = []
    most, least = shape.metadata.get("max"), shape.metadata.get("min")
    size: Callable[[Any], Any] = len if what == "length" else (lambda value: value)
    if most is not None:
        text = f"Member must have {what} less than or equal to {most}"
        constraints.append((lambda value: size(value) <= most, text))
    if least:
        text = f"Member must have {what} greater than or equal to {least}"
        constraints.append((lambda value: size(value) >= least, text))
    elif least == 0 and what == "value":
        text = f"Member must have value greater than or equal to {least}"
        constraints.append((lambda value: value >= least, text))
    return constraints


def _enum(shape: Shape) -> list[tuple[Callable[[Any], bool], str]]:
    allowed = getattr(shape, "enum", None)
    if not allowed:
        return []
    text = f"Member must satisfy enum value set: [{', '.join(allowed)}]"
    return [(frozenset(allowed).__contains__, text)]


def _pattern(shape: Shape) -> list[tuple[Callable[[Any], bool], str]]:
    pattern = shape.metadata.get("pattern")
    compiled = compile_pattern(pattern) if pattern else None
    if compiled is None:
        return []
    text = f"Member must satisfy regular expression pattern: {pattern}"
    # Far beyond its length a value is refused already, and some patterns take for ever over it.
    bound = 2 * shape.metadata.get("max", math.inf)
    return [(lambda value: len(value) > bound or compiled.fullmatch(value) is not None, text)]


def _failure(value: Any, path: str, text: str) -> str:
    return f"Value '{_shown(value)}' at '{path}' failed to satisfy constraint: {text}"


def _shown(value: Any) -> str:
    """As Java prints it: lists in brackets, maps and structures as {k=v}."""
    if isinstance(value, list):
        text = f"[{', '.join(_shown(one) for one in value)}]"
    elif isinstance(value, dict):
        text = f"{{{', '.join(f'{key}={_shown(one)}' for key, one in value.items())}}}"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = str(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[:VALUE_CHARACTERS_MAX] + "..."
