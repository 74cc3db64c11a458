"""The Condition element of a policy statement: operators, sets, missing keys.

A condition block is true when every operator is true for every key in it; an operator is true for
a key when one of the listed values matches, or, if it is a negated one, when none does.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from clary.identity.patterns import Context, Pattern, fill, glob, pattern_of, segments

Test = Callable[[str, Pattern, Context], bool]


@dataclass(frozen=True, slots=True)
class Operator:
    test: Test
    negated: bool = False


def _string_equals(value: str, wanted: Pattern, context: Context) -> bool:
    return value == wanted.expand(context)


def _string_equals_folded(value: str, wanted: Pattern, context: Context) -> bool:
    text = wanted.expand(context)
    return text is not None and value.casefold() == text.casefold()


def _string_like(value: str, wanted: Pattern, context: Context) -> bool:
    return wanted.matches(value, context)


def _arn_like(value: str, wanted: Pattern, context: Context) -> bool:
    """Each of the six parts of an ARN is matched on its own: a star does not reach over a colon."""
    if wanted.text == "*":
        return True
    filled = fill(wanted.parts, context)
    if filled is None:
        return False
    values, patterns = value.split(":", 5), segments(filled, 6)
    if len(values) != 6 or len(patterns) != 6:
        return False
    return all(glob(parts, text) for parts, text in zip(patterns, values, strict=True))


def _boolean(value: str, wanted: Pattern, context: Context) -> bool:
    text = wanted.expand(context)
    return text is not None and value.lower() == text.lower()


def _binary(value: str, wanted: Pattern, context: Context) -> bool:
    try:
        return base64.b64decode(value, validate=True) == base64.b64decode(
            wanted.text, validate=True
        )
    except (binascii.Error, ValueError):
        return False


def _ip(value: str, wanted: Pattern, context: Context) -> bool:
    address, network = _network(value), _network(wanted.expand(context) or "")
    if address is None or network is None or address.version != network.version:
        return False
    return address.subnet_of(network)  # type: ignore[arg-type]


@lru_cache(4096)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


_EPOCH = re.compile(r"-?\d+(\.\d+)?")


def date_of(text: str | None) -> float | None:
    """Epoch seconds of a W3C date ("2026-01-31", "2026-01-31T12:00:00Z") or of an epoch number."""
    if text is None:
        return None
    if _EPOCH.fullmatch(text) and len(text) != 4:
        return float(text)
    try:
        when = datetime.fromisoformat(text if len(text) != 4 else f"{text}-01-01")
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _ordered(read: Callable[[str | None], float | None], *signs: int) -> Test:
    """A test that reads both sides and wants the sign of their difference to be one of `signs`."""

    def test(value: str, wanted: Pattern, context: Context) -> bool:
        left, right = read(value), read(wanted.expand(context))
        if left is None or right is None:
            return False
        return (left > right) - (left < right) in signs

    return test


def _family(prefix: str, read: Callable[[str | None], float | None]) -> dict[str, Operator]:
    equals = _ordered(read, 0)
    return {
        f"{prefix}equals": Operator(equals),
        f"{prefix}notequals": Operator(equals, negated=True),
        f"{prefix}lessthan": Operator(_ordered(read, -1)),
        f"{prefix}lessthanequals": Operator(_ordered(read, -1, 0)),
        f"{prefix}greaterthan": Operator(_ordered(read, 1)),
        f"{prefix}greaterthanequals": Operator(_ordered(read, 1, 0)),
    }


OPERATORS: dict[str, Operator] = {
    "stringequals": Operator(_string_equals),
    "stringnotequals": Operator(_string_equals, negated=True),
    "stringequalsignorecase": Operator(_string_equals_folded),
    "stringnotequalsignorecase": Operator(_string_equals_folded, negated=True),
    "stringlike": Operator(_string_like),
    "stringnotlike": Operator(_string_like, negated=True),
    "arnequals": Operator(_arn_like),
    "arnlike": Operator(_arn_like),
    "arnnotequals": Operator(_arn_like, negated=True),
    "arnnotlike": Operator(_arn_like, negated=True),
    "bool": Operator(_boolean),
    "binaryequals": Operator(_binary),
    "ipaddress": Operator(_ip),
    "notipaddress": Operator(_ip, negated=True),
    **_family("numeric", _number),
    **_family("date", date_of),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One key under one operator."""

    operator: Operator | None  # None is Null: whether the key is absent
    key: str  # lower-case
    values: tuple[Pattern, ...]
    quantifier: str = ""  # "forallvalues" | "foranyvalue" | ""
    if_exists: bool = False

    def holds(self, context: Context) -> bool:
        found = context.get(self.key)
        if self.operator is None:
            absent = not found
            return any((value.text.lower() == "true") == absent for value in self.values)
        if not found:
            if self.if_exists or self.quantifier == "forallvalues":
                return True
            return self.operator.negated and not self.quantifier
        test, negated = self.operator.test, self.operator.negated
        results = (any(test(one, value, context) for value in self.values) for one in found)
        match self.quantifier:
            case "forallvalues":
                return all(result != negated for result in results)
            case "foranyvalue":
                return any(result != negated for result in results)
            case _:
                return any(results) != negated


def parse_conditions(block: Any, *, variables: bool) -> tuple[Condition, ...]:
    """The conditions of a statement; raise ValueError in the words of IAM when it is malformed."""
    if not isinstance(block, dict):
        raise ValueError("Syntax errors in policy.")
    conditions: list[Condition] = []
    for name, keys in block.items():
        if not isinstance(keys, dict):
            raise ValueError("Syntax errors in policy.")
        operator, quantifier, if_exists = _operator(name)
        for key, values in keys.items():
            listed = values if isinstance(values, list) else [values]
            if not all(isinstance(value, (str, int, float, bool)) for value in listed):
                raise ValueError("Syntax errors in policy.")
            patterns = tuple(pattern_of(_text(value), variables) for value in listed)
            conditions.append(Condition(operator, key.lower(), patterns, quantifier, if_exists))
    return tuple(conditions)


def _operator(name: str) -> tuple[Operator | None, str, bool]:
    quantifier, colon, plain = name.lower().rpartition(":")
    if colon and quantifier not in ("forallvalues", "foranyvalue"):
        raise ValueError(f"Invalid Condition type : {name}")
    if plain == "null":
        return None, quantifier, False
    if_exists = plain.endswith("ifexists")
    found = OPERATORS.get(plain.removesuffix("ifexists"))
    if found is None:
        raise ValueError(f"Invalid Condition type : {name}")
    return found, quantifier, if_exists


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
