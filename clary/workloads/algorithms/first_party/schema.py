"""The hyperparameters of first-party algorithms: `auto`, defaults, and errors as a JSON schema's.

The containers check hyperparameters.json with a JSON schema; users know and search its messages.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.hyperparameters import (
    VALUE_LENGTH_MAX,
    Hyperparameter,
    Hyperparameters,
    Interval,
)

AUTO = "auto"
# What the platform and the SDKs send to every first-party container; none changes a result.
ACCEPTED_EVERYWHERE = (
    "_tuning_objective_metric",
    "_log_level",
    "_num_gpus",
    "_num_kv_servers",
    "_kvstore",
    "_enable_profiler",
    "_ftp_port",
    "_disable_wait_to_read",
    "force_dense",
)


@dataclass(frozen=True)
class Schema(Hyperparameters):
    """Hyperparameters with defaults; `without_effect` says why a name changes nothing here."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    without_effect: Mapping[str, str] = field(default_factory=dict)

    def validate(self, given: Mapping[str, str]) -> dict[str, Any]:
        """All values, defaults filled in; raise ClientError for the first that is wrong."""
        known = {one.name: one for one in self.declared}
        own = {name: _plain(text) for name, text in given.items() if not _is_foreign(name)}
        for name in own:
            if name not in known:
                raise ClientError(
                    f"Additional properties are not allowed ('{name}' was unexpected)"
                )
        for one in self.declared:
            if one.required and one.name not in own:
                raise ClientError(f"'{one.name}' is a required property")
        values = dict(self.defaults)
        values.update({name: _parsed(known[name], text) for name, text in own.items()})
        for rule in self.rules:
            rule(values)
        return values

    def remarks(self, values: Mapping[str, Any]) -> list[str]:
        """What the log says of the values that are not the default and have no effect here."""
        return [
            f"Hyperparameter {name}={values[name]} has no effect here: {why}"
            for name, why in self.without_effect.items()
            if name in values and values[name] != self.defaults.get(name)
        ]


def _is_foreign(name: str) -> bool:
    return name in ACCEPTED_EVERYWHERE or name.startswith("sagemaker_")


def _plain(text: object) -> str:
    """The value as text, without the quotes of JSON that SDKs put around some strings."""
    word = text if isinstance(text, str) else json.dumps(text)
    word = word.strip()
    if len(word) > 1 and word[0] == word[-1] == '"':
        try:
            return str(json.loads(word))
        except ValueError:
            return word
    return word


# -- declarations ---------------------------------------------------------------------------------


def integer(
    name: str, low: int | None = None, high: int | None = None, *, auto: bool = False, **more: Any
) -> Hyperparameter:
    words = (AUTO,) if auto else ()
    return Hyperparameter(name, "integer", Interval(low, high), words, **more)


def number(
    name: str, interval: Interval | None = None, *, words: tuple[str, ...] = (), **more: Any
) -> Hyperparameter:
    return Hyperparameter(name, "continuous", interval or Interval(), words, **more)


def choice(name: str, *choices: str, **more: Any) -> Hyperparameter:
    return Hyperparameter(name, "categorical", None, choices, **more)


def boolean(name: str, *, auto: bool = False, **more: Any) -> Hyperparameter:
    """Parsed to True or False, or the word `auto`."""
    return Hyperparameter(
        name, "categorical", None, ("true", "false", AUTO) if auto else ("true", "false"), **more
    )


def names(name: str, *choices: str) -> Hyperparameter:
    """A JSON list of some of the words."""
    return Hyperparameter(name, "words", None, choices)


def text(name: str, pattern: str, **more: Any) -> Hyperparameter:
    """A word of a form of its own; it stays text."""
    return Hyperparameter(name, "text", None, (pattern,), **more)


AT_LEAST_ZERO = Interval(0)
POSITIVE = Interval(0, low_open=True)
INSIDE_ONE = Interval(0, 1, low_open=True, high_open=True)
BELOW_ONE = Interval(0, 1, high_open=True)


# -- parsing --------------------------------------------------------------------------------------


def _parsed(declared: Hyperparameter, text: str) -> Any:
    if len(text) > VALUE_LENGTH_MAX:
        raise _invalid(declared, text[:40] + "...", "maxLength", str(VALUE_LENGTH_MAX))
    return _PARSERS[declared.kind](declared, text)


def _number(declared: Hyperparameter, text: str) -> Any:
    if text in declared.choices:
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if declared.kind == "integer":
        if not value.is_integer():
            raise _not_one_of(declared, text)
        value = int(value)
    if math.isinf(value) or (declared.interval is not None and value not in declared.interval):
        raise _not_one_of(declared, text)
    return value


def _word(declared: Hyperparameter, text: str) -> Any:
    word = text.lower() if "true" in declared.choices else text
    if word not in declared.choices:
        shown = ", ".join(repr(one) for one in declared.choices)
        raise _invalid(declared, text, "enum", f"[{shown}]", f"is not one of [{shown}]")
    return {"true": True, "false": False}.get(word, word)


def _words(declared: Hyperparameter, text: str) -> list[str]:
    try:
        found = json.loads(text.replace("'", '"')) if text.startswith("[") else text.split(",")
    except ValueError:
        found = []
    if not isinstance(found, list) or not found:
        raise _invalid(declared, text, "type", "array of strings", "is not of type 'array'")
    stripped = [str(one).strip() for one in found]
    if any(one not in declared.choices for one in stripped):
        shown = ", ".join(repr(one) for one in declared.choices)
        raise _invalid(declared, text, "enum", f"[{shown}]", f"is not one of [{shown}]")
    return stripped


def _text(declared: Hyperparameter, text: str) -> str:
    pattern = declared.choices[0]
    if not re.fullmatch(pattern, text):
        raise _invalid(declared, text, "pattern", f"'{pattern}'", f"does not match '{pattern}'")
    return text


_PARSERS: Mapping[str, Callable[[Hyperparameter, str], Any]] = {
    "integer": _number,
    "continuous": _number,
    "categorical": _word,
    "words": _words,
    "text": _text,
}


def _not_one_of(declared: Hyperparameter, text: str) -> ClientError:
    kind = "integer" if declared.kind == "integer" else "number"
    schemas = [f"{{'type': '{kind}', 'range': '{declared.interval}'}}"]
    schemas += [f"{{'enum': ['{word}']}}" for word in declared.choices]
    return _invalid(
        declared,
        text,
        "oneOf",
        f"{{'oneOf': [{', '.join(schemas)}]}}",
        "is not valid under any of the given schemas",
    )


def _invalid(
    declared: Hyperparameter, text: str, rule: str, schema: str, complaint: str = "is too long"
) -> ClientError:
    return ClientError(
        f"'{text}' {complaint}\n\nFailed validating '{rule}' in schema['properties']"
        f"['{declared.name}']:\n    {schema}\n\nOn instance['{declared.name}']:\n    '{text}'"
    )
