"""Texts of policies with wildcards and variables, such as `arn:aws:s3:::home/${aws:username}/*`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any


class Wildcard(Enum):
    ANY = "*"
    ONE = "?"


@dataclass(frozen=True, slots=True)
class Variable:
    key: str  # lower-case
    default: str | None


Part = str | Wildcard | Variable

_SPECIAL = re.compile(r"\$\{([^{}]*)\}|[*?]")
_VARIABLE = re.compile(r"\s*([^\s,'\"]+)\s*(?:,\s*'([^']*)'\s*)?")


class Context:
    """The condition keys of one request; names ignore case, as IAM's do. Layers: later ones win."""

    __slots__ = ("_folded", "_layers")

    def __init__(self, *layers: Mapping[str, Any]) -> None:
        self._layers = layers
        self._folded: dict[str, tuple[str, ...]] | None = None

    def get(self, key: str) -> tuple[str, ...] | None:
        """The values of a lower-case key; None if the request has no such key."""
        # Most decisions ask for no key at all: the names are folded only when one does.
        if self._folded is None:
            self._folded = {
                name.lower(): _texts(value)
                for layer in self._layers
                for name, value in layer.items()
                if value is not None
            }
        return self._folded.get(key)

    def single(self, key: str) -> str | None:
        """The value of a key that has exactly one, as a policy variable needs."""
        values = self.get(key)
        return values[0] if values is not None and len(values) == 1 else None


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(text for one in value for text in _texts(one))
    return (str(value),)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One text of a policy, taken apart."""

    text: str
    parts: tuple[Part, ...]
    variable: bool

    def matches(self, value: str, context: Context, *, fold: bool = False) -> bool:
        """Whether the wildcards and variables can produce `value`; `fold` ignores case.

        A variable that the request cannot fill matches nothing.
        """
        if self.text == "*":
            return True
        parts = self.parts
        if self.variable:
            filled = fill(parts, context)
            if filled is None:
                return False
            parts = filled
        return glob(parts, value, fold=fold)

    def expand(self, context: Context) -> str | None:
        """The text with its variables filled and its wildcards as they stand."""
        filled = fill(self.parts, context)
        if filled is None:
            return None
        return "".join(part.value if isinstance(part, Wildcard) else str(part) for part in filled)


@lru_cache(8192)
def pattern_of(text: str, variables: bool = True) -> Pattern:
    """Take a text apart; policies older than 2012-10-17 have no variables."""
    parts: list[Part] = []
    at = 0
    for found in _SPECIAL.finditer(text):
        if found[1] is not None and not variables:
            continue
        if found.start() > at:
            parts.append(text[at : found.start()])
        parts.append(Wildcard(found[0]) if found[1] is None else _variable(found[1]))
        at = found.end()
    if at < len(text):
        parts.append(text[at:])
    has_variable = any(isinstance(part, Variable) for part in parts)
    return Pattern(text, tuple(parts), has_variable)


def _variable(inside: str) -> Part:
    """What `${...}` stands for: `${*}`, `${?}` and `${$}` are those characters themselves."""
    if inside in ("*", "?", "$"):
        return inside
    found = _VARIABLE.fullmatch(inside)
    if found is None:
        return Variable(inside.strip().lower(), None)
    return Variable(found[1].lower(), found[2])


def fill(parts: tuple[Part, ...], context: Context) -> tuple[Part, ...] | None:
    """The parts with every variable replaced by its value, in which wildcards mean themselves."""
    filled: list[Part] = []
    for part in parts:
        if isinstance(part, Variable):
            value = context.single(part.key)
            if value is None:
                value = part.default
            if value is None:
                return None
            filled.append(value)
        else:
            filled.append(part)
    return tuple(filled)


@lru_cache(4096)
def segments(parts: tuple[Part, ...], count: int) -> tuple[tuple[Part, ...], ...]:
    """Filled parts cut at their colons, into at most `count` runs, as an ARN is."""
    cut: list[list[Part]] = [[]]
    for part in parts:
        texts = part.split(":", count - len(cut)) if isinstance(part, str) else [part]
        cut[-1].append(texts[0])
        cut += ([text] for text in texts[1:])
    return tuple(tuple(run) for run in cut)


def glob(parts: tuple[Part, ...], value: str, *, fold: bool = False) -> bool:
    """Whether filled parts match the whole of a value."""
    return _regex(parts, fold).match(value) is not None


def any_of(patterns: list[Pattern]) -> re.Pattern[str]:
    """One regular expression for all of some patterns without variables."""
    return re.compile("|".join(f"(?:{_expression(one.parts)})" for one in patterns), re.DOTALL)


@lru_cache(8192)
def _regex(parts: tuple[Part, ...], fold: bool) -> re.Pattern[str]:
    return re.compile(_expression(parts), re.DOTALL | (re.IGNORECASE if fold else 0))


def _expression(parts: tuple[Part, ...]) -> str:
    """A regular expression that never backtracks over an earlier `*`.

    Each stretch between two stars is taken at its first occurrence, which is enough for globs;
    atomic groups forbid trying later ones, so that a hostile pattern costs no more than
    its length times that of the value.
    """
    stretches: list[str] = [""]
    for part in parts:
        if part is Wildcard.ANY:
            stretches.append("")
        elif part is Wildcard.ONE:
            stretches[-1] += "."
        else:
            stretches[-1] += re.escape(str(part))
    first, *rest = stretches
    text = first
    if rest:
        *middle, last = rest
        text += "".join(f"(?>.*?{stretch})" for stretch in middle if stretch) + ".*" + last
    return text + r"\Z"
