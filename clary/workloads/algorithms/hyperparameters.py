"""Hyperparameters: the declared names, types and ranges, and the check of what a job brings.

The texts of the errors are those that SageMaker's open containers use; users search for them.
"""

from __future__ import annotations

import ast
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clary.workloads.algorithms.errors import UserError

VALUE_LENGTH_MAX = 2500
INTEGER_MIN, INTEGER_MAX = -(2**31), 2**31 - 1


@dataclass(frozen=True)
class Interval:
    """A range of numbers; a missing end is infinite, an open end is not part of it."""

    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        if self.low is not None and (value < self.low or (self.low_open and value == self.low)):
            return False
        if self.high is not None and (value > self.high or (self.high_open and value == self.high)):
            return False
        return not math.isnan(value)

    def __str__(self) -> str:
        low = "(-inf" if self.low is None else f"{'(' if self.low_open else '['}{self.low}"
        high = "+inf)" if self.high is None else f"{self.high}{')' if self.high_open else ']'}"
        return f"{low}, {high}"


@dataclass(frozen=True)
class Hyperparameter:
    """One name: `kind` is a key of PARSERS; numbers have an `interval`, words have `choices`."""

    name: str
    kind: str
    interval: Interval | None = None
    choices: tuple[Any, ...] = ()
    required: bool = False
    tunable: Interval | None = None  # the range that the documentation recommends for tuning
    aliases: tuple[str, ...] = ()
    # Takes one parsed word and says whether it is accepted; None means that it is in `choices`.
    accepts: Callable[[Any], bool] | None = None


# Sees all values of a job after each of them was accepted; raises UserError.
Rule = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Hyperparameters:
    """All hyperparameters of an algorithm, and the rules among them."""

    declared: tuple[Hyperparameter, ...]
    rules: tuple[Rule, ...] = ()

    def validate(self, given: Mapping[str, str]) -> dict[str, Any]:
        """The parsed values by their main names; raise UserError for the first that is wrong."""
        by_name = {name: one for one in self.declared for name in (one.name, *one.aliases)}
        own = {name: text for name, text in given.items() if not name.startswith("sagemaker_")}
        for one in self.declared:
            if one.required and not any(name in own for name in (one.name, *one.aliases)):
                raise UserError(f"Missing required hyperparameter: {one.name}")
        values: dict[str, Any] = {}
        for name, text in own.items():
            declared = by_name.get(name)
            if declared is None:
                raise UserError(f"Extraneous hyperparameter found: {name}")
            values[declared.name] = _parsed(declared, name, _plain(text))
        for rule in self.rules:
            rule(values)
        return values

    def specifications(self) -> tuple[dict[str, object], ...]:
        """The declarations as SageMaker's HyperParameterSpecification."""
        return tuple(_specification(one) for one in self.declared)


def _plain(text: object) -> str:
    """The value as text: SDKs send some strings with the quotes of JSON around them."""
    word = text if isinstance(text, str) else json.dumps(text)
    word = word.strip()
    if word.startswith('"') and word.endswith('"') and len(word) > 1:
        try:
            return str(json.loads(word))
        except ValueError:
            return word
    return word


def _parsed(declared: Hyperparameter, name: str, text: str) -> Any:
    if len(text) > VALUE_LENGTH_MAX:
        raise UserError(f"Hyperparameter {name}: could not parse value")
    try:
        value = PARSERS[declared.kind](text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as problem:
        raise UserError(f"Hyperparameter {name}: could not parse value") from problem
    if declared.kind in ("integer", "continuous"):
        if declared.interval is not None and value not in declared.interval:
            raise UserError(f"Hyperparameter {name}: value {text} not in range {declared.interval}")
    elif declared.kind == "categorical":
        if not _is_accepted(declared, value):
            raise UserError(f"Hyperparameter {name}: {value} is not in {list(declared.choices)}")
    elif declared.kind != "text" and not all(_is_accepted(declared, one) for one in _flat(value)):
        allowed = declared.interval or list(declared.choices)
        raise UserError(f"Hyperparameter {name}: value {value} not in range {allowed}")
    return value


def _is_accepted(declared: Hyperparameter, word: Any) -> bool:
    if declared.accepts is not None:
        return declared.accepts(word)
    if declared.interval is not None:
        return isinstance(word, int) and word in declared.interval
    return word in declared.choices


def _flat(value: Sequence[Any]) -> list[Any]:
    return [inner for one in value for inner in (one if isinstance(one, list) else [one])]


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = float(text)  # JSON writers turn 6 into 6.0
        if not number.is_integer():
            raise
        return int(number)


def _words(text: str) -> list[str]:
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return [word.strip().strip("'\"") for word in text.split(",")]


def _tuple(text: str) -> tuple[Any, ...]:
    value = ast.literal_eval(text)
    if not isinstance(value, (tuple, list)):
        raise ValueError(text)
    return tuple(value)


def _nested(text: str) -> list[list[Any]]:
    value = ast.literal_eval(text)
    if not isinstance(value, list) or not all(isinstance(one, list) for one in value):
        raise ValueError(text)
    return value


def _word(text: str) -> str:
    return {"True": "true", "False": "false"}.get(text, text)


PARSERS: dict[str, Callable[[str], Any]] = {
    "integer": _integer,
    "continuous": float,
    "categorical": _word,
    "words": _words,
    "tuple": _tuple,
    "nested": _nested,
    "text": str,
}


def _specification(one: Hyperparameter) -> dict[str, object]:
    kinds = {"integer": "Integer", "continuous": "Continuous", "categorical": "Categorical"}
    kind = kinds.get(one.kind, "FreeText")
    found: dict[str, object] = {
        "Name": one.name,
        "Description": one.name,
        "Type": kind,
        "IsTunable": one.tunable is not None,
        "IsRequired": one.required,
    }
    if kind == "Categorical" and one.choices:
        found["Range"] = {
            "CategoricalParameterRangeSpecification": {"Values": [str(c) for c in one.choices]}
        }
    elif kind in ("Integer", "Continuous") and one.interval is not None:
        low, high = one.interval.low, one.interval.high
        if kind == "Integer":
            ends = (INTEGER_MIN if low is None else low, INTEGER_MAX if high is None else high)
        else:
            most = sys.float_info.max
            ends = (-most if low is None else low, most if high is None else high)
        found["Range"] = {
            f"{kind}ParameterRangeSpecification": {
                "MinValue": str(ends[0]),
                "MaxValue": str(ends[1]),
            }
        }
    return found
