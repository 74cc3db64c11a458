"""Records of an explained request: features out of CSV or JSON Lines and back, and scores of answers. Pure."""

from __future__ import annotations

import ast
import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

CSV, JSON_LINES, JSON = "text/csv", "application/jsonlines", "application/json"
PLACEHOLDER = "$features"
Record = list[Any]


class ExplainerError(Exception):
    """A request that cannot be explained; the text is for whoever sent it."""


def plain_type(content_type: str) -> str:
    kind = content_type.partition(";")[0].strip().lower()
    return JSON_LINES if kind in ("application/jsonl", "application/x-jsonlines") else kind


def features_of(body: str, content_type: str, config: Mapping[str, Any]) -> list[Record]:
    """The features of each record of a request, or of a baseline."""
    kind = plain_type(content_type)
    if kind == CSV:
        return [row for row in csv.reader(io.StringIO(body)) if row]
    if kind != JSON_LINES:
        raise ExplainerError(
            f"Online explainability takes {CSV} and {JSON_LINES}, but not {content_type or 'nothing'}."
        )
    attribute = config.get("FeaturesAttribute")
    found: list[Record] = []
    for line in body.splitlines():
        if not line.strip():
            continue
        record = _loaded(line)
        features = record
        if isinstance(record, dict):
            features = _searched(attribute, record) if attribute else None
        if not isinstance(features, list):
            raise ExplainerError(
                "A JSON Lines record has no list of features: name it in FeaturesAttribute."
            )
        found.append(features)
    return found


def body_of(records: Sequence[Record], content_type: str, config: Mapping[str, Any]) -> str:
    """Records in the form that the model takes."""
    if plain_type(content_type) == CSV:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(records)
        return text.getvalue()
    template = config.get("ContentTemplate") or PLACEHOLDER
    lines = [template.replace(PLACEHOLDER, json.dumps(one, ensure_ascii=False)) for one in records]
    return "".join(f"{line}\n" for line in lines)


def outputs_of(body: str, content_type: str) -> list[Any]:
    """What the model answered for each record: an array of CSV cells, or whatever JSON it is."""
    kind = plain_type(content_type)
    if kind == JSON_LINES:
        return [_loaded(line) for line in body.splitlines() if line.strip()]
    if kind == JSON:
        found = _loaded(body)
        if isinstance(found, dict) and isinstance(found.get("predictions"), list):
            found = found["predictions"]
        return found if isinstance(found, list) else [found]
    return [[_cell(one) for one in row] for row in csv.reader(io.StringIO(body)) if row]


def scores_of(output: Any, config: Mapping[str, Any]) -> list[float]:
    """The probabilities or scores in one output, one for each class."""
    found = output
    if config.get("ProbabilityAttribute"):
        found = _searched(config["ProbabilityAttribute"], output)
    elif config.get("ProbabilityIndex") is not None:
        found = _at(output, config["ProbabilityIndex"], "ProbabilityIndex")
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], list):
        found = found[0]
    values = found if isinstance(found, list) else [found]
    if not values or not all(isinstance(one, int | float) for one in values):
        raise ExplainerError(
            f"The model's output {str(output)[:100]!r} has no probability or score: say where it is "
            "by ProbabilityIndex or ProbabilityAttribute."
        )
    return [float(one) for one in values]


def labels_of(output: Any, config: Mapping[str, Any]) -> list[str] | None:
    """The label headers of the configuration, or those in an output."""
    if config.get("LabelHeaders"):
        return list(config["LabelHeaders"])
    found: Any = None
    if config.get("LabelAttribute"):
        found = _searched(config["LabelAttribute"], output)
    elif config.get("LabelIndex") is not None:
        found = _at(output, config["LabelIndex"], "LabelIndex")
    if found is None:
        return None
    return [str(one) for one in (found if isinstance(found, list) else [found])]


def is_wanted(expression: str, output: Any) -> bool:
    """Whether EnableExplanations holds for one output."""
    try:
        found = jmespath.search(expression, output)
    except JMESPathError as problem:
        raise ExplainerError(f"EnableExplanations {expression!r} fails: {problem}") from problem
    if not isinstance(found, bool):
        raise ExplainerError(
            f"EnableExplanations {expression!r} must be true or false for every record, but is "
            f"{str(found)[:100]!r} for the output {str(output)[:100]!r}."
        )
    return found


def as_number(value: Any) -> Any:
    """A cell of CSV as JSON would hold it."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _cell(text: str) -> Any:
    value = as_number(text.strip())
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        # Lists inside a cell are written with either kind of quotes.
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return value
    return value


def _at(output: Any, index: int, member: str) -> Any:
    if not isinstance(output, list) or index >= len(output):
        raise ExplainerError(f"The model's output {str(output)[:100]!r} has no {member} {index}.")
    return output[index]


def _searched(expression: str, data: Any) -> Any:
    try:
        return jmespath.search(expression, data)
    except JMESPathError as problem:
        raise ExplainerError(
            f"The JMESPath expression {expression!r} fails: {problem}"
        ) from problem


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as problem:
        raise ExplainerError(f"{text[:100]!r} is not valid JSON: {problem}") from problem
