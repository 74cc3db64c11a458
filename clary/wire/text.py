"""Scalars that travel as text: in XML, forms, URIs, query strings and headers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.model import Shape

from clary.wire.coerce import (
    boolean_from_text,
    float_from_text,
    integer_from_text,
    number_text,
    read_base64,
    write_base64,
    write_boolean,
    write_integer,
    write_string,
)
from clary.wire.timestamps import FORMATS, from_text, to_iso

TextReader = Callable[[str], Any]
TextWriter = Callable[[Any], str]


def blob_from_text(text: str) -> bytes:
    # Pretty-printed documents break base64 over lines.
    return read_base64("".join(text.split()))


READERS: dict[str, TextReader] = {
    "string": str,
    "character": str,
    "integer": integer_from_text,
    "long": integer_from_text,
    "float": float_from_text,
    "double": float_from_text,
    "boolean": boolean_from_text,
    "blob": blob_from_text,
    "timestamp": from_text,
}


def integer_text(value: Any) -> str:
    return str(write_integer(value))


def boolean_text(value: Any) -> str:
    return "true" if write_boolean(value) else "false"


WRITERS: dict[str, TextWriter] = {
    "string": write_string,
    "character": write_string,
    "integer": integer_text,
    "long": integer_text,
    "float": number_text,
    "double": number_text,
    "boolean": boolean_text,
    "blob": write_base64,
}


def text_reader(shape: Shape) -> TextReader:
    return READERS[shape.type_name]


def text_writer(shape: Shape, timestamp: TextWriter = to_iso) -> TextWriter:
    """`timestamp` serves where the model does not name a format."""
    if shape.type_name != "timestamp":
        return WRITERS[shape.type_name]
    wanted = shape.serialization.get("timestampFormat")
    if wanted is None or wanted.lower() == "iso8601":
        # The default may be a stricter spelling of the same format.
        return timestamp if wanted is None or timestamp is not FORMATS["rfc822"] else to_iso
    return FORMATS[wanted.lower()]
