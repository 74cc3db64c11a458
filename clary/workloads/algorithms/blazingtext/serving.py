"""Serving BlazingText: the vectors of words, or the most likely labels of sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import floret

from clary.workloads.algorithms.execution_parameters import execution_parameters
from clary.workloads.algorithms.first_party import json_exchange
from clary.workloads.algorithms.first_party.requests import JSON_LINES, as_json
from clary.workloads.serving.handlers import Answer, Rejected


class TextHandler:
    """Answers requests with one fastText model."""

    def __init__(self, model: Any, *, supervised: bool) -> None:
        self.model, self.supervised = model, supervised

    def ping(self) -> bool:
        return True

    def execution_parameters(self) -> dict[str, object]:
        return execution_parameters()

    def invoke(
        self, body: bytes, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> Answer:
        kind, _, wanted = json_exchange.negotiate(content_type, accept)
        if wanted != kind:
            raise Rejected(
                406, f"Accept type {accept} is not supported: it must be the content type, {kind}."
            )
        with json_exchange.evaluating():
            requests = list(_lines(body) if kind == JSON_LINES else _instances(body))
        answers = [self._answer(text, k) for text, k in requests]
        # SageMaker's container answers JSON with a bare list.
        content = json_exchange.told(answers, kind) if kind == JSON_LINES else as_json(answers)
        return 200, kind, content

    def _answer(self, text: str, k: int) -> dict[str, Any]:
        if not self.supervised:
            return {"word": text, "vector": self.model.get_word_vector(text).tolist()}
        labels, shares = self.model.predict(" ".join(text.split()), k)
        # Rounding lets a share be a little more than one.
        return {"label": list(labels), "prob": [min(float(share), 1.0) for share in shares]}


def _lines(body: bytes) -> Iterator[tuple[str, int]]:
    """`{"source": "..", "k": 2}` on each line."""
    for one in json_exchange.lines(body):
        yield _text(one["source"]), _count(one.get("k", 1))


def _instances(body: bytes) -> Iterator[tuple[str, int]]:
    """`{"instances": ["..", ".."], "configuration": {"k": 2}}`."""
    document = json_exchange.document(body)
    k = _count((document.get("configuration") or {}).get("k", 1))
    for one in document["instances"]:
        yield _text(one), k


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _count(value: Any) -> int:
    k = int(value)
    if k < 1:
        raise ValueError(f"k is {k}, and must be 1 or more")
    return k


def load(folder: Path) -> TextHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    for name, supervised in (("model.bin", True), ("vectors.bin", False)):
        path = folder / name
        if path.is_file():
            try:
                return TextHandler(floret.load_model(str(path)), supervised=supervised)
            except ValueError as problem:
                raise Rejected(500, f"Unable to load model: {problem}") from problem
    raise Rejected(
        500, f"Unable to load model: there is neither model.bin nor vectors.bin in {folder}"
    )
