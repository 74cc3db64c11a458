"""What is wrong with an answer, compared with the output shape of its operation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from clary.model.patterns import compile_pattern

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "character": (str,),
    "blob": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float),
}


def faults_of(shape: Shape | None, answer: Any) -> list[str]:
    """Each a sentence with the path of the member; empty for an answer that keeps to its shape."""
    if shape is None:
        return [] if answer == {} else [f"the operation answers nothing, but this came: {answer}"]
    return list(_faults(shape, answer, shape.name))


def _faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if value is None:
        yield f"{path} is null"
    elif isinstance(shape, StructureShape):
        yield from _structure(shape, value, path)
    elif isinstance(shape, ListShape):
        if not isinstance(value, list):
            yield f"{path} is {value!r}, not a list"
            return
        for position, one in enumerate(value):
            yield from _faults(shape.member, one, f"{path}[{position}]")
    elif isinstance(shape, MapShape):
        if not isinstance(value, dict):
            yield f"{path} is {value!r}, not a map"
            return
        for key, one in value.items():
            yield from _scalar(shape.key, key, f"{path} key")
            yield from _faults(shape.value, one, f"{path}[{key}]")
    else:
        yield from _scalar(shape, value, path)


def _structure(shape: StructureShape, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path} is {value!r}, not a structure"
        return
    for name in shape.required_members:
        if name not in value:
            yield f"{path}.{name} is required and absent"
    if getattr(shape, "is_tagged_union", False) and len(value) != 1:
        yield f"{path} is a union and has {sorted(value)}"
    for name, one in value.items():
        member = shape.members.get(name)
        if member is None:
            yield f"{path}.{name} is not a member of {shape.name}"
        else:
            yield from _faults(member, one, f"{path}.{name}")


def _scalar(shape: Shape, value: Any, path: str) -> Iterator[str]:
    types = _TYPES[shape.type_name]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        yield f"{path} is {value!r}, not a {shape.type_name}"
        return
    allowed = getattr(shape, "enum", None)
    if allowed and value not in allowed:
        yield f"{path} is {value!r}, not one of {allowed}"
    pattern = shape.metadata.get("pattern")
    compiled = compile_pattern(pattern) if pattern and isinstance(value, str) else None
    if compiled is not None and not compiled.fullmatch(value):
        yield f"{path} is {value!r}, which does not match {pattern}"
    size = len(value) if isinstance(value, str) else value
    if shape.type_name not in ("boolean", "timestamp"):
        least, most = shape.metadata.get("min"), shape.metadata.get("max")
        if (least is not None and size < least) or (most is not None and size > most):
            yield f"{path} is {value!r}, outside {least} to {most}"
