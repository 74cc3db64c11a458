"""Filter policies: which messages of a topic a subscription wants. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from clary.model.errors import ApiError

CONDITIONS = ("prefix", "suffix", "anything-but", "numeric", "exists", "equals-ignore-case")
COMPARISONS = {
    "=": lambda one, two: one == two,
    "<": lambda one, two: one < two,
    "<=": lambda one, two: one <= two,
    ">": lambda one, two: one > two,
    ">=": lambda one, two: one >= two,
}
DEPTH_MAX = 5


def check_filter(text: str) -> None:
    """Raise InvalidParameter for a policy that SNS would not take."""
    try:
        policy = orjson.loads(text)
    except ValueError as problem:
        raise _invalid("failed to parse JSON") from problem
    if not isinstance(policy, dict):
        raise _invalid("it must be a JSON object")
    _check(policy, 1)


def _check(policy: dict[str, Any], depth: int) -> None:
    if depth > DEPTH_MAX:
        raise _invalid(f"it is nested deeper than {DEPTH_MAX}")
    for name, wanted in policy.items():
        if isinstance(wanted, dict):
            _check(wanted, depth + 1)
            continue
        if not isinstance(wanted, list) or not wanted:
            raise _invalid(f'"{name}" must be an object or a non-empty array')
        for one in wanted:
            _check_condition(name, one)


def _check_condition(name: str, condition: Any) -> None:
    if isinstance(condition, list):
        raise _invalid(f'"{name}" must not hold an array in an array')
    if not isinstance(condition, dict):
        return
    if len(condition) != 1 or next(iter(condition)) not in CONDITIONS:
        raise _invalid(f'unrecognized match type in "{name}"')
    numbers = condition.get("numeric")
    if numbers is not None:
        pairs = list(zip(numbers[::2], numbers[1::2], strict=False)) if _even(numbers) else []
        if not pairs or any(
            sign not in COMPARISONS or not _is_number(value) for sign, value in pairs
        ):
            raise _invalid(f'the numeric match of "{name}" is malformed')


def _even(numbers: Any) -> bool:
    return isinstance(numbers, list) and len(numbers) % 2 == 0


def wants(text: str, values: dict[str, Any]) -> bool:
    """Whether a policy lets a message through whose attributes, or body, are `values`."""
    return not text or _wants(orjson.loads(text), values)


def _wants(policy: dict[str, Any], values: dict[str, Any]) -> bool:
    for name, wanted in policy.items():
        if isinstance(wanted, dict):
            inner = values.get(name)
            if not isinstance(inner, dict) or not _wants(wanted, inner):
                return False
        elif not any(_meets(one, name in values, values.get(name)) for one in wanted):
            return False
    return True


def _meets(condition: Any, present: bool, value: Any) -> bool:
    if isinstance(condition, dict) and "exists" in condition:
        return present == bool(condition["exists"])
    if not present:
        return False
    return any(_one(condition, one) for one in (value if isinstance(value, list) else [value]))


def _one(condition: Any, value: Any) -> bool:
    if not isinstance(condition, dict):
        return condition == value and isinstance(condition, bool) == isinstance(value, bool)
    kind, wanted = next(iter(condition.items()))
    match kind:
        case "prefix":
            return isinstance(value, str) and value.startswith(str(wanted))
        case "suffix":
            return isinstance(value, str) and value.endswith(str(wanted))
        case "equals-ignore-case":
            return isinstance(value, str) and value.lower() == str(wanted).lower()
        case "anything-but":
            if isinstance(wanted, dict):
                return not _one(wanted, value)
            return value not in (wanted if isinstance(wanted, list) else [wanted])
        case "numeric":
            return _is_number(value) and all(
                COMPARISONS[sign](value, bound)
                for sign, bound in zip(wanted[::2], wanted[1::2], strict=False)
            )
        case _:
            return False


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _invalid(reason: str) -> ApiError:
    message = f"Invalid parameter: FilterPolicy: {reason}"
    return ApiError(message, code="InvalidParameter", status=400)
