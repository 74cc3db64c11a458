"""Whether the ranges of a definition make a search space, in SageMaker's terms. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from clary.model.errors import ValidationException
from clary.resources.tuning.definitions import Definition

TUNED_MAX = 30
KINDS = ("IntegerParameterRanges", "ContinuousParameterRanges", "CategoricalParameterRanges")


def check_ranges(definition: Definition) -> None:
    """Raise ValidationException for the first range that makes no sense."""
    names = [one["Name"] for _, one in _all(definition.ranges)]
    if not names:
        raise ValidationException(
            f"{definition.place}: at least one hyperparameter range is required; give "
            "ParameterRanges, or Autotune with AutoParameters."
        )
    if len(names) > TUNED_MAX:
        raise ValidationException(
            f"{definition.place}: {len(names)} hyperparameters are to be tuned, and at most "
            f"{TUNED_MAX} can be."
        )
    for name in names:
        if names.count(name) > 1:
            raise ValidationException(
                f"{definition.place}: the hyperparameter '{name}' has more than one range."
            )
        if name in definition.static:
            raise ValidationException(
                f"{definition.place}: the hyperparameter '{name}' is both static and tunable. "
                "Leave it out of StaticHyperParameters or of the ranges."
            )
    for kind, given in _all(definition.ranges):
        if kind == "CategoricalParameterRanges":
            _check_values(given)
        else:
            _check_numbers(given, whole=kind == "IntegerParameterRanges")


def _all(ranges: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for kind in KINDS:
        for one in ranges.get(kind) or []:
            yield kind, one


def _check_values(given: Mapping[str, Any]) -> None:
    values = given["Values"]
    if not values or len(set(values)) < len(values):
        raise ValidationException(
            f"The categorical hyperparameter '{given['Name']}' needs at least one value, each once."
        )


def _check_numbers(given: Mapping[str, Any], *, whole: bool) -> None:
    name = given["Name"]
    low, high = (_number(given, member, whole=whole) for member in ("MinValue", "MaxValue"))
    if low > high:
        raise ValidationException(
            f"The hyperparameter '{name}' has a MinValue ({given['MinValue']}) above its MaxValue "
            f"({given['MaxValue']})."
        )
    scaling = given.get("ScalingType") or "Auto"
    if scaling == "Logarithmic" and low <= 0:
        raise ValidationException(
            f"The hyperparameter '{name}' cannot have Logarithmic scaling: its MinValue "
            f"({given['MinValue']}) must be greater than 0."
        )
    if scaling == "ReverseLogarithmic" and (whole or low < 0 or high >= 1):
        raise ValidationException(
            f"The hyperparameter '{name}' cannot have ReverseLogarithmic scaling: that is for "
            "continuous ranges from 0 to below 1."
        )


def _number(given: Mapping[str, Any], member: str, *, whole: bool) -> float:
    try:
        number = float(given[member])
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (whole and number != int(number)):
        kind = "an integer" if whole else "a number"
        raise ValidationException(
            f"The {member} '{given[member]}' of the hyperparameter '{given['Name']}' is not {kind}."
        )
    return number
