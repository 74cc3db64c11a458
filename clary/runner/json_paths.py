"""The JSONPath subset of batch transform's filters: `$`, names, indices, slices, lists of them, and `*`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, Tuple  # noqa: UP035 - the alias below is evaluated

_BARE_NAME = r"""[^\s.\[\]*'"(),:?@$]+"""
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_STEP = re.compile(
    rf"""
      \.(?P<name>{_BARE_NAME})
    | (?P<all>\.\*|\[\s*\*\s*\])
    | \[\s*(?P<start>-?\d+)?\s*:\s*(?P<end>-?\d+)?\s*\]
    | \[\s*(?P<indices>-?\d+(?:\s*,\s*-?\d+)*)\s*\]
    | \[\s*(?P<names>(?:{_QUOTED})(?:\s*,\s*(?:{_QUOTED}))*)\s*\]
    """,
    re.VERBOSE,
)


class JsonPathError(ValueError):
    """The text is no path of the subset; the message says where it stops being one."""


class NothingThere(LookupError):
    """The document has nothing at the path."""


class Step(NamedTuple):
    """One step down: exactly one of its members is used."""

    names: tuple[str, ...] = ()
    indices: tuple[int, ...] = ()
    span: slice | None = None  # none of the three: `*`

    @property
    def is_many(self) -> bool:
        """Whether it leads to a list of values even where only one is there."""
        return not self.names and len(self.indices) != 1


Path = Tuple[Step, ...]  # noqa: UP006


def parse(text: str) -> Path:
    """The steps of a path; `$` has none. Raise JsonPathError."""
    text = text.strip()
    if not text.startswith("$"):
        raise JsonPathError(f"the JSONPath {text!r} does not begin with $")
    steps: list[Step] = []
    at = 1
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise JsonPathError(
                f"the JSONPath {text!r} is not supported from {text[at:]!r} on: use $, .name, "
                "['name','name'], [number,number], [start:end] and *"
            )
        steps.append(_step(found))
        at = found.end()
    return tuple(steps)


def select(path: Path, document: Any) -> Any:
    """What lies at the path: a value, or a list where the path may lead to several; raise NothingThere.

    Several names of one object select an object with these names, as Jayway's JsonPath does.
    """
    values: list[Any] = [document]
    many = False
    for step in path:
        values = [below for value in values for below in _below(step, value, many)]
        many = many or step.is_many
    return values if many else values[0]


def _step(found: re.Match[str]) -> Step:
    if found["name"] is not None:
        return Step(names=(found["name"],))
    if found["names"] is not None:
        quoted = re.findall(_QUOTED, found["names"])
        return Step(names=tuple(re.sub(r"\\(.)", r"\1", one[1:-1]) for one in quoted))
    if found["indices"] is not None:
        return Step(indices=tuple(int(one) for one in found["indices"].split(",")))
    if found["all"] is not None:
        return Step()
    start, end = found["start"], found["end"]
    return Step(span=slice(int(start) if start else None, int(end) if end else None))


def _below(step: Step, value: Any, many: bool) -> Iterator[Any]:
    """The values one step below; among many values those without the step's name are left out."""
    try:
        yield from _taken(step, value)
    except (LookupError, TypeError) as problem:
        if not many:
            raise NothingThere(f"there is nothing at {_shown(step)}") from problem


def _taken(step: Step, value: Any) -> list[Any]:
    if step.names:
        if not isinstance(value, dict):
            raise TypeError("not an object")
        if len(step.names) == 1:
            return [value[step.names[0]]]
        return [{name: value[name] for name in step.names}]
    if not step.indices and step.span is None and isinstance(value, dict):
        return list(value.values())
    if not isinstance(value, list):
        raise TypeError("not an array")
    if step.indices:
        return [value[index] for index in step.indices]
    return value[step.span] if step.span is not None else list(value)


def _shown(step: Step) -> str:
    if step.names:
        return "[" + ",".join(repr(name) for name in step.names) + "]"
    if step.indices:
        return "[" + ",".join(str(index) for index in step.indices) + "]"
    return "[*]" if step.span is None else f"[{step.span.start}:{step.span.stop}]"
