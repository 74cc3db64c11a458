"""Serving text classification: the probabilities of all classes for the text of a request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from clary.workloads.algorithms.channels import parse_content_type
from clary.workloads.algorithms.execution_parameters import SINGLE_RECORD, execution_parameters
from clary.workloads.algorithms.tabular import model_document
from clary.workloads.algorithms.tabular.serving import JSON, is_verbose, probabilities, unfit
from clary.workloads.algorithms.text_classification.training import FOLDER, tokens
from clary.workloads.serving.handlers import Rejected

CONTENT_TYPES = ("application/x-text", "text/plain")


class TextHandler:
    """Answers requests with one model; a request is one text."""

    batchable = True

    def __init__(self, tokenizer: Any, model: Any, classes: tuple[Any, ...]) -> None:
        self.tokenizer, self.model, self.classes = tokenizer, model.eval(), classes

    def ping(self) -> bool:
        return True

    def execution_parameters(self) -> dict[str, object]:
        return execution_parameters(SINGLE_RECORD, at_once=1)

    def decode(self, body: bytes, content_type: str) -> np.ndarray:
        kind, _ = parse_content_type(content_type or "")
        if kind not in CONTENT_TYPES:
            raise Rejected(
                415,
                f"Content type {content_type or '(none)'} is not supported. Supported content "
                "types: application/x-text.",
            )
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as problem:
            raise unfit(f"the text is not UTF-8: {problem}") from problem
        if not text.strip():
            raise unfit("the request body is empty")
        return np.array([text], dtype=object)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            outputs = self.model(**tokens(self.tokenizer, self.model, list(rows))).logits
        return torch.softmax(outputs.to(torch.float64), dim=1).numpy()

    def encode(self, results: np.ndarray, accept: str) -> tuple[str, bytes]:
        """The content type and the body; refuses with 406."""
        verbose = is_verbose(accept)
        return JSON, probabilities(results[0], self.classes, verbose=verbose)

    def invoke(
        self, body: bytes, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        """Answer one request by itself."""
        return (200, *self.encode(self.predict(self.decode(body, content_type)), accept))


def load(folder: Path) -> TextHandler:
    """The handler for a model folder; refuses with 500 where no model can be read."""
    classes = model_document.load(folder, "text-classification")["classes"]
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder / FOLDER, local_files_only=True)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder / FOLDER, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as problem:
        raise Rejected(500, f"Unable to load model: {problem}") from problem
    return TextHandler(tokenizer, model, tuple(classes))
