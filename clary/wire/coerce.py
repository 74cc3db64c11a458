"""Scalars: what a wire value must be to become a member's value, and the words when it is not."""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Any

INTEGER = re.compile(r"[+-]?\d{1,40}")
SPECIAL_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
LIST_FOUND = "Start of list found where not expected"
STRUCTURE_FOUND = "Start of structure or map found where not expected."


class Malformed(Exception):
    """Input that cannot be read; each protocol turns it into its own error code."""


def mismatch(value: Any, wanted: str) -> Malformed:
    """The message that AWS's JSON services print for a value of the wrong type."""
    if isinstance(value, list):
        return Malformed(LIST_FOUND)
    if isinstance(value, dict):
        return Malformed(STRUCTURE_FOUND)
    return Malformed(f"{token(value)} can not be converted to {wanted}")


def token(value: Any) -> str:
    if isinstance(value, bool):
        return "TRUE_VALUE" if value else "FALSE_VALUE"
    if isinstance(value, int):
        return "NUMBER_VALUE"
    if isinstance(value, float):
        return "DECIMAL_VALUE"
    if isinstance(value, bytes):
        return "BLOB_VALUE"
    return "NULL_VALUE" if value is None else "STRING_VALUE"


def read_string(value: Any) -> str:
    if type(value) is str:
        return value
    raise mismatch(value, "a String")


def read_integer(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise mismatch(value, "an Integer")


def read_long(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise mismatch(value, "a Long")


def read_float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        return whole_float(value)
    if type(value) is str and value in SPECIAL_FLOATS:
        return SPECIAL_FLOATS[value]
    raise mismatch(value, "a Double")


def whole_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError as problem:
        raise Malformed("Number is out of range") from problem


def read_boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    raise mismatch(value, "a Boolean")


def read_base64(value: Any) -> bytes:
    if type(value) is not str:
        raise mismatch(value, "a Blob")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise Malformed("Blob is not valid base64") from problem


def integer_from_text(text: str) -> int:
    if INTEGER.fullmatch(text.strip()) is None:
        raise mismatch(text, "an Integer")
    return int(text)


def float_from_text(text: str) -> float:
    text = text.strip()
    if text in SPECIAL_FLOATS:
        return SPECIAL_FLOATS[text]
    try:
        found = float(text)
    except ValueError as problem:
        raise mismatch(text, "a Double") from problem
    # Python also reads "inf" and "1_0", which no AWS service does.
    if not math.isfinite(found) or "_" in text:
        raise mismatch(text, "a Double")
    return found


def boolean_from_text(text: str) -> bool:
    match text.strip().lower():
        case "true":
            return True
        case "false":
            return False
    raise mismatch(text, "a Boolean")


def write_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"{value!r:.80} is not a string")


def write_integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"{value!r:.80} is not an integer")


def write_float(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ValueError(f"{value!r:.80} is not a number")


def write_json_float(value: Any) -> float | str:
    """JSON has no word for NaN and the infinities; AWS writes them as strings."""
    found = write_float(value)
    return found if math.isfinite(found) else float_words(found)


def float_words(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def write_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"{value!r:.80} is not a boolean")


def write_bytes(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise ValueError(f"{value!r:.80} is not bytes")


def write_base64(value: Any) -> str:
    return base64.b64encode(write_bytes(value)).decode("ascii")


def number_text(value: Any) -> str:
    """A float as XML, headers and query strings spell it."""
    found = write_float(value)
    return str(found) if math.isfinite(found) else float_words(found)
