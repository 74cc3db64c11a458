"""Answers as JumpStart's inference scripts give them: JSON, with labels where `;verbose` asks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from clary.workloads.algorithms.channels import parse_content_type
from clary.workloads.algorithms.execution_parameters import execution_parameters
from clary.workloads.algorithms.tabular.problems import Problem
from clary.workloads.serving.handlers import Rejected

JSON = "application/json"
CONTENT_TYPES = ("text/csv", "csv")


class Model(Protocol):
    """What an algorithm serves."""

    problem: Problem

    def decode(self, body: bytes) -> Any:
        """The rows of a CSV body; refuses with 400."""
        ...

    def predict(self, rows: Any) -> np.ndarray:
        """A number for each row, or a row of the probabilities of all classes."""
        ...


class PredictionHandler:
    """Answers requests with one model."""

    batchable = True

    def __init__(self, model: Model) -> None:
        self.model = model

    def ping(self) -> bool:
        return True

    def execution_parameters(self) -> dict[str, object]:
        return execution_parameters(at_once=1)

    def decode(self, body: bytes, content_type: str) -> Any:
        kind, _ = parse_content_type(content_type or "")
        if kind not in CONTENT_TYPES:
            raise Rejected(
                415,
                f"Content type {content_type or '(none)'} is not supported. Supported content "
                "types: text/csv.",
            )
        if not body.strip():
            raise unfit("the request body is empty")
        return self.model.decode(body)

    def predict(self, rows: Any) -> np.ndarray:
        return self.model.predict(rows)

    def encode(self, results: np.ndarray, accept: str) -> tuple[str, bytes]:
        """The content type and the body; refuses with 406."""
        verbose = is_verbose(accept)
        problem = self.model.problem
        if problem.is_regression:
            return JSON, json.dumps({"prediction": results.tolist()}).encode()
        return JSON, probabilities(results, problem.classes, verbose=verbose)

    def invoke(
        self, body: bytes, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        """Answer one request by itself."""
        return (200, *self.encode(self.predict(self.decode(body, content_type)), accept))


def probabilities(results: np.ndarray, classes: tuple[Any, ...], *, verbose: bool) -> bytes:
    """`probabilities`, and with `verbose` the labels and the most probable of them.

    One vector gives one label, a row for each request row a list of labels.
    """
    answer: dict[str, Any] = {"probabilities": results.tolist()}
    if verbose:
        best = results.argmax(axis=-1).tolist()
        answer["labels"] = list(classes)
        answer["predicted_label"] = (
            [classes[at] for at in best] if isinstance(best, list) else classes[best]
        )
    return json.dumps(answer).encode()


def is_verbose(accept: str) -> bool:
    """Whether labels are asked for; refuses with 406 what is no JSON."""
    for one in (accept or "*/*").split(","):
        kind, _, rest = one.strip().lower().partition(";")
        if kind in (JSON, "json", "*/*", "application/*", ""):
            return rest.strip().startswith("verbose")
    raise Rejected(
        406,
        f"Accept type {accept} is not supported. Supported accept types: application/json, "
        "application/json;verbose.",
    )


def unfit(message: str) -> Rejected:
    return Rejected(400, f"unable to evaluate payload provided: {message}")
