"""What of a record is explained: its features, and of text each token, sentence or paragraph. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clary.dataplane.explainer_records import Record, as_number

TEXT = "text"
_PARTS = {
    "token": re.compile(r"\S+"),
    "sentence": re.compile(r"[^\s.!?][^.!?]*(?:[.!?]+|$)"),
    "paragraph": re.compile(r"\S[^\n]*(?:\n(?!\s*\n)[^\n]+)*"),
}


@dataclass(frozen=True, slots=True)
class Unit:
    """A feature, or a part of one that is text."""

    feature: int
    start: int = 0
    text: str | None = None


def feature_types(baseline: Sequence[Record], config: Mapping[str, Any], *, nlp: bool) -> list[str]:
    """FeatureTypes as given, or as the baseline looks; text is text only where TextConfig asks for it."""
    given = (config.get("InferenceConfig") or {}).get("FeatureTypes")
    if given:
        return list(given)
    columns = zip(*baseline, strict=True)
    types: list[str] = []
    for column in columns:
        numeric = all(isinstance(as_number(one), int | float) for one in column)
        types.append("numerical" if numeric else TEXT if nlp else "categorical")
    return types


def units_of(record: Record, types: Sequence[str], granularity: str | None) -> list[Unit]:
    found: list[Unit] = []
    for number, value in enumerate(record):
        if types[number] == TEXT and granularity and isinstance(value, str):
            parts = list(_PARTS[granularity].finditer(value))
            found += [Unit(number, part.start(), part.group()) for part in parts]
        else:
            found.append(Unit(number))
    return found


def mixed(record: Record, background: Record, units: Sequence[Unit], mask: int) -> Record:
    """The record with the baseline's values where the coalition does not hold a unit."""
    made = list(record)
    # From the end, so that what is replaced does not move what is still to come.
    for number in reversed(range(len(units))):
        if mask >> number & 1:
            continue
        unit = units[number]
        replaced = background[unit.feature]
        if unit.text is None:
            made[unit.feature] = replaced
        else:
            text = made[unit.feature]
            end = unit.start + len(unit.text)
            made[unit.feature] = f"{text[: unit.start]}{replaced}{text[end:]}"
    return made
