"""Autotune: ranges around hints, or around the defaults of a built-in algorithm, where the caller gives none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

TUNED_MAX = 10
FACTOR = 10.0  # a hint is searched from a tenth of it to ten times it


def chosen_ranges(
    ranges: Mapping[str, Any],
    specifications: Iterable[Mapping[str, Any]],
    static: Mapping[str, str],
) -> dict[str, Any]:
    """ParameterRanges without AutoParameters: those given, and one for each hint or, without any, each default."""
    given = {kind: list(one) for kind, one in ranges.items() if kind != "AutoParameters"}
    known = {str(one["Name"]): one for one in specifications}
    hints = {one["Name"]: one["ValueHint"] for one in ranges.get("AutoParameters") or []}
    if not hints and not any(given.values()):
        hints = {
            name: str(one["DefaultValue"])
            for name, one in known.items()
            if one.get("IsTunable") and one.get("DefaultValue") not in (None, "", "auto")
        }
        hints = dict(list(hints.items())[:TUNED_MAX])
    for name, hint in hints.items():
        if name not in static:
            kind, one = _around(name, hint, known.get(name, {}).get("Range") or {})
            given.setdefault(kind, []).append(one)
    return given


def _around(name: str, hint: str, limits: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    categorical = limits.get("CategoricalParameterRangeSpecification")
    if categorical:
        return "CategoricalParameterRanges", {"Name": name, "Values": list(categorical["Values"])}
    try:
        number = float(hint)
    except ValueError:
        values = ["true", "false"] if hint.lower() in ("true", "false") else [hint]
        return "CategoricalParameterRanges", {"Name": name, "Values": values}
    whole = "." not in hint and "e" not in hint.lower() and number == int(number)
    if limits:
        whole = "IntegerParameterRangeSpecification" in limits
    low, high = _ends(number, whole=whole)
    for one in limits.values():
        low, high = max(low, float(one["MinValue"])), min(high, float(one["MaxValue"]))
    show = (lambda value: str(math.floor(value))) if whole else repr
    kind = "IntegerParameterRanges" if whole else "ContinuousParameterRanges"
    return kind, {"Name": name, "MinValue": show(low), "MaxValue": show(high)}


def _ends(number: float, *, whole: bool) -> tuple[float, float]:
    if number == 0:
        return 0.0, 10.0 if whole else 1.0
    ends = sorted((number / FACTOR, number * FACTOR))
    if whole:
        return (max(1.0, ends[0]), ends[1]) if number > 0 else (ends[0], ends[1])
    # A number below 1 is most often a share or a rate, which 1 bounds.
    return (ends[0], min(ends[1], 1.0)) if 0 < number < 1 else (ends[0], ends[1])
