"""SavedModels behind TensorFlow Serving's REST contract, and the handlers of a user's inference.py.

    {"instances": [...]}  a row each    -> {"predictions": [...]}
    {"inputs": {...}}     whole columns -> {"outputs": ...}
    {"examples": [...]} tf.Examples     -> {"results": [...]}, by `tfs-method=classify` or `regress`
with an optional "signature_name". `tfs-model-name=...,tfs-model-version=...` in the custom attributes chooses among
several models. inference.py defines `input_handler` and `output_handler`, or `handler`, which does it all and may ask
the models at `context.rest_uri`.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import namedtuple
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from clary.workloads.serving.content_types import JSON, media_type
from clary.workloads.serving.handlers import Answer, Handler, Rejected
from clary.workloads.serving.tensorflow_examples import METHODS
from clary.workloads.serving.tensorflow_models import SavedModels
from clary.workloads.serving.tensorflow_rest import RestDoor

NEEDS_SCRIPT = False
# The thread pools of TensorFlow begin with the first tensor, and what waits for them in a fork waits
# for ever.
LOADED_BY_EACH_PROCESS = True
ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
LINES = ("application/jsonlines", "application/jsonl", "application/x-jsonlines")
NPY = "application/x-npy"
REQUESTS = frozenset(("instances", "inputs", "examples"))  # of TensorFlow Serving as they are

# What TensorFlow's own containers give to the handlers of inference.py.
Context = namedtuple(
    "Context",
    "model_name model_version method rest_uri grpc_port channel custom_attributes "
    "request_content_type accept_header content_length",
)


class Response:
    """What `output_handler` gets: as much of a requests.Response as it uses."""

    def __init__(self, status_code: int, document: Any) -> None:
        self.status_code = status_code
        self.text = json.dumps(document, indent=4)
        self.content = self.text.encode("utf-8")
        self.headers = {"Content-Type": JSON}
        self.ok = status_code < 400

    def json(self) -> Any:
        return json.loads(self.text)


def make_handler(module: ModuleType | None, model_dir: str) -> Handler:
    return TensorFlowServing(SavedModels(Path(model_dir), os.environ), module)


class TensorFlowServing:
    """Answers invocations by the signatures of SavedModels."""

    def __init__(self, models: SavedModels, module: ModuleType | None) -> None:
        self.models = models
        self._has_script = module is not None
        self._rest: tuple[int, RestDoor] | None = None  # with the process that it is of
        self._whole = getattr(module, "handler", None)
        self._input = getattr(module, "input_handler", None)
        self._output = getattr(module, "output_handler", None)
        if bool(self._input) != bool(self._output):
            raise ValueError("inference.py must define both input_handler and output_handler.")
        if module is not None and not (self._whole or self._input):
            raise ValueError(
                "inference.py must define input_handler and output_handler, or handler."
            )

    def ping(self) -> bool:
        return True

    def invoke(
        self, body: bytes, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> Answer:
        context = self._context(body, content_type, accept, headers)
        if self._whole is not None:
            return _answered(self._whole(io.BytesIO(body), context), context.accept_header)
        if self._input is None:
            status, document = self._predict(_request_of(body, content_type), context)
            return status, JSON, json.dumps(document, indent=4).encode("utf-8")
        made = self._input(io.BytesIO(body), context)
        text = made.decode("utf-8") if isinstance(made, bytes) else made
        status, document = self._predict(_loaded(text) if isinstance(text, str) else text, context)
        return _answered(self._output(Response(status, document), context), context.accept_header)

    def _predict(self, request: Any, context: Any) -> tuple[int, Any]:
        return self.models.answer(
            context.method, context.model_name, context.model_version, request
        )

    def _context(
        self, body: bytes, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> Any:
        attributes = headers.get(ATTRIBUTES, "")
        pairs = (one.partition("=") for one in attributes.split(","))
        given = {key.strip(): value.strip() for key, _, value in pairs}
        method = given.get("tfs-method", "predict")
        if method not in METHODS:
            known = ", ".join(sorted(METHODS))
            raise Rejected(400, f"The method {method} is not served; use one of {known}.")
        name = given.get("tfs-model-name") or self.models.default
        version = given.get("tfs-model-version") or None
        return Context(
            name,
            version,
            method,
            self._rest_door().uri(name, version, method) if self._has_script else None,
            None,
            None,
            attributes,
            media_type(content_type),
            JSON if accept in ("", "*/*") else accept,
            len(body),
        )

    def _rest_door(self) -> RestDoor:
        """One for each process that serves: the threads of one do not come along when it forks."""
        if self._rest is None or self._rest[0] != os.getpid():
            self._rest = os.getpid(), RestDoor(self.models)
        return self._rest[1]


def _request_of(body: bytes, content_type: str) -> Any:
    """The request of TensorFlow Serving that a body means without an inference.py."""
    kind = media_type(content_type) or JSON
    if kind == JSON:
        found = _loaded(_text(body))
        if isinstance(found, dict) and REQUESTS.intersection(found):
            return found
        return {"instances": found if isinstance(found, list) else [found]}
    if kind in LINES:
        lines = [_loaded(line) for line in _text(body).splitlines() if line.strip()]
        return {"instances": lines}
    if kind == "text/csv":
        rows = csv.reader(io.StringIO(_text(body)))
        return {"instances": [[_cell(one) for one in row] for row in rows if row]}
    if kind == NPY:
        import numpy

        try:
            return {"instances": numpy.load(io.BytesIO(body), allow_pickle=False)}
        except (ValueError, EOFError) as problem:
            raise Rejected(400, f"The request is not an npy array: {problem}") from problem
    raise Rejected(415, f"Unsupported media type: {kind}")


def _answered(result: Any, accept: str) -> Answer:
    """What a user's function returned: a body, or a body and its content type."""
    body, kind = result if isinstance(result, tuple) else (result, accept)
    content = body.encode("utf-8") if isinstance(body, str) else bytes(body)
    return 200, JSON if kind in ("", "*/*") else kind, content


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise Rejected(400, f"The request body is not UTF-8 text: {problem}") from problem


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as problem:
        raise Rejected(400, f"JSON Parse error: {problem}") from problem


def _cell(text: str) -> Any:
    converters: tuple[Callable[[str], Any], ...] = (int, float)
    for convert in converters:
        try:
            return convert(text)
        except ValueError:
            continue
    return text
