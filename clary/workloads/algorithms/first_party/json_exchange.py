"""What handlers have in common whose instances are JSON of their own: texts, pairs, series."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from clary.workloads.algorithms.channels import parse_content_type
from clary.workloads.algorithms.first_party.requests import JSON, JSON_LINES, as_json
from clary.workloads.serving.handlers import Rejected

BOTH = (JSON, JSON_LINES)


def negotiate(
    content_type: str, accept: str, accepted: Sequence[str] = BOTH
) -> tuple[str, Mapping[str, str], str]:
    """The content type, its parameters, and the type of the answer; refuses with 415 or 406."""
    kind, parameters = parse_content_type(content_type or "")
    if kind not in accepted:
        raise Rejected(
            415,
            f"Content-type {content_type or '(none)'} not supported. Supported content-types: "
            f"{', '.join(accepted)}.",
        )
    wanted, _ = parse_content_type(accept or "")
    wanted = kind if wanted in ("", "*/*") else wanted
    if wanted not in accepted:
        raise Rejected(
            406, f"Accept type {accept} is not supported. Supported types: {', '.join(accepted)}."
        )
    return kind, parameters, wanted


@contextmanager
def evaluating() -> Iterator[None]:
    """Refuse with 400 what is wrong with a body, however it comes to light."""
    try:
        yield
    except KeyError as problem:
        raise _unfit(f"{problem} is missing") from problem
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as problem:
        raise _unfit(problem) from problem


def _unfit(cause: object) -> Rejected:
    return Rejected(400, f"unable to evaluate payload provided: {cause}")


def lines(body: bytes) -> list[Any]:
    """The documents of JSON Lines; raises ValueError."""
    return [json.loads(line) for line in body.decode("utf-8").splitlines() if line.strip()]


def document(body: bytes) -> dict[str, Any]:
    """An object with a list "instances"; raises ValueError."""
    found = json.loads(body)
    if not isinstance(found, dict) or not isinstance(found.get("instances"), list):
        raise ValueError('a JSON body is an object with a list "instances"')
    return found


def told(answers: Sequence[Mapping[str, Any]], wanted: str) -> bytes:
    """One answer a line, or all of them as "predictions"."""
    if wanted == JSON_LINES:
        return b"".join(as_json(one) + b"\n" for one in answers)
    return as_json({"predictions": answers})
