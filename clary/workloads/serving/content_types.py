"""Media types of requests and responses, and the arrays they hold."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy

from clary.workloads.formats import csv_rows
from clary.workloads.serving.handlers import Rejected

try:
    from orjson import loads as _loads
except ImportError:  # The environment of an image need not have it.
    from json import loads as _loads

JSON = "application/json"
JSON_LINES = "application/jsonlines"
CSV = "text/csv"
NPY = "application/x-npy"
NPZ = "application/x-npz"
ANY = "*/*"

# The public toolkits hand these to a user's input_fn as text and everything else as bytes.
TEXT_TYPES = (JSON, CSV)
ENCODED = (JSON, CSV, NPY, JSON_LINES)


def media_type(header: str) -> str:
    """Return the type without its parameters, in lower case."""
    return header.partition(";")[0].strip().lower()


def negotiate(accept: str, default: str, offered: tuple[str, ...]) -> str:
    """Return the offered type that an Accept header likes best; `Rejected` 406 if it has none."""
    if accept in offered:
        return accept
    if not accept or accept == ANY:
        return default
    best, liking = "", 0.0
    for part in accept.split(","):
        name, _, parameters = part.partition(";")
        kind, weight = name.strip().lower(), _quality(parameters)
        if kind in (ANY, "application/*", "text/*"):
            kind = (
                default if kind == ANY or default.startswith(kind[:-1]) else _first(kind, offered)
            )
        if kind in offered and weight > liking:
            best, liking = kind, weight
    if not best:
        raise Rejected(
            406,
            f"Accept type {accept} is not supported. "
            f"Please use supported accept types: {list(offered)}",
        )
    return best


def decode(body: bytes, content_type: str) -> numpy.ndarray:
    """Return the array that a request's body holds; `Rejected` 415 or 400 if it cannot be."""
    kind = media_type(content_type)
    reader = READERS.get(kind)
    if reader is None:
        raise Rejected(
            415,
            f"Content type {kind or '(none)'} is not supported by this framework. Please implement "
            "input_fn to deserialize the request data, or send one of "
            f"{', '.join(sorted(READERS))}.",
        )
    if not body:
        raise Rejected(400, "The request body is empty.")
    try:
        return reader(body)
    except (ValueError, TypeError, EOFError, OSError, KeyError) as problem:
        raise Rejected(400, f"The request body is not {kind}: {problem}") from problem


def encode(result: Any, content_type: str) -> bytes:
    """Return the bytes of a prediction in one of the `ENCODED` types."""
    if content_type == CSV:
        return csv_rows.write(result)
    if content_type == JSON:
        return json.dumps(_plain(result)).encode("utf-8")
    if content_type == JSON_LINES:
        plain = _plain(result)
        lines = plain if isinstance(plain, list) else [plain]
        return "".join(json.dumps(line) + "\n" for line in lines).encode("utf-8")
    if content_type == NPY:
        out = io.BytesIO()
        numpy.save(out, numpy.asarray(result), allow_pickle=False)
        return out.getvalue()
    raise Rejected(406, f"Accept type {content_type} is not supported.")


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _first(pattern: str, offered: tuple[str, ...]) -> str:
    return next((kind for kind in offered if kind.startswith(pattern[:-1])), "")


def _plain(value: Any) -> Any:
    """Turn arrays, also inside lists and dictionaries, into what JSON knows."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _from_json(body: bytes) -> numpy.ndarray:
    array = numpy.array(_loads(body))
    if array.dtype == object:
        raise ValueError("the JSON is no rectangle of numbers or strings")
    return array


def _from_json_lines(body: bytes) -> numpy.ndarray:
    return numpy.array([_loads(line) for line in body.splitlines() if line.strip()])


def _from_npy(body: bytes) -> numpy.ndarray:
    # Pickled arrays run code while they load: a request never may.
    return numpy.load(io.BytesIO(body), allow_pickle=False)


def _from_npz(body: bytes) -> Any:
    from scipy.sparse import load_npz

    return load_npz(io.BytesIO(body))


READERS = {
    CSV: csv_rows.read,
    JSON: _from_json,
    JSON_LINES: _from_json_lines,
    NPY: _from_npy,
    NPZ: _from_npz,
}
