"""A user's inference script: model_fn, input_fn, predict_fn, output_fn or transform_fn."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from clary.workloads.serving.context import Context
from clary.workloads.serving.handlers import Answer, Handler, Rejected

TEXT_TYPES = ("application/json", "text/csv")
STEPS = ("input_fn", "predict_fn", "output_fn")


class ScriptError(Exception):
    """The user's script cannot serve; the message says what to change."""


def load_script(model_dir: str, framework: str, environ: Mapping[str, str]) -> Handler:
    """Stage the user's code, import it and let it load the model."""
    program = environ.get("SAGEMAKER_PROGRAM")
    if not program:
        raise ScriptError("SAGEMAKER_PROGRAM must name the script that serves the model.")
    code = stage(model_dir, environ)
    for path in (str(code), *(p for p in _packages(code))):
        sys.path.insert(0, path)
    name = program[:-3] if program.endswith(".py") else program
    module = importlib.import_module(name.replace("/", "."))
    return make_handler(module, model_dir, framework)


def stage(model_dir: str, environ: Mapping[str, str]) -> Path:
    """Return the directory of the user's code, downloaded if it is an archive in S3."""
    source = environ.get("SAGEMAKER_SUBMIT_DIRECTORY") or str(Path(model_dir) / "code")
    if source.startswith("file://"):
        source = source[len("file://") :]
    if source.startswith("s3://") or source.endswith((".tar.gz", ".tgz")):
        from clary.workloads.toolkit import source_code

        target = Path(environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")) / "code"
        source_code.stage(source, target)
        return target
    if not Path(source).is_dir():
        raise ScriptError(f"The code directory {source} does not exist.")
    return Path(source)


def _packages(code: Path) -> list[str]:
    if not (code / "requirements.txt").is_file():
        return []
    from clary.workloads.toolkit import requirements

    return [str(path) for path in requirements.install_file(code / "requirements.txt", os.environ)]


def make_handler(module: ModuleType, model_dir: str, framework: str) -> Handler:
    """Return the handler of a script, with its model loaded."""
    defaults = _defaults(framework)
    transform = getattr(module, "transform_fn", None)
    steps = {name: getattr(module, name, None) for name in STEPS}
    if transform is not None and any(steps.values()):
        raise ScriptError(
            "Cannot use transform_fn implementation with input_fn, predict_fn, and/or output_fn"
        )
    load = getattr(module, "model_fn", None) or getattr(defaults, "model_fn", None)
    if load is None:
        raise ScriptError(f"{module.__name__} must define model_fn.")
    model = _adapt(load, 1)(model_dir, Context(model_dir))
    parameters = getattr(module, "execution_parameters_fn", None)
    if transform is not None:
        return TransformHandler(model, model_dir, _adapt(transform, 4), parameters)
    if defaults is None and not all(steps.values()):
        missing = ", ".join(name for name, step in steps.items() if step is None)
        raise ScriptError(f"{module.__name__} must define {missing}.")
    functions = {name: _adapt(step or getattr(defaults, name), 2) for name, step in steps.items()}
    handler = StepsHandler(model, model_dir, functions, parameters)
    if steps["predict_fn"] is None and defaults is not None and defaults.is_rowwise(model):
        return RowsHandler(handler, defaults, steps)
    return handler


def _defaults(framework: str) -> Any:
    if framework == "sklearn":
        return importlib.import_module("clary.workloads.serving.sklearn_defaults")
    if framework == "xgboost":
        return importlib.import_module("clary.workloads.serving.xgboost_defaults")
    return None


def _adapt(function: Callable[..., Any], arguments: int) -> Callable[..., Any]:
    """Let a function with or without the `context` parameter be called with it."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return lambda *given: function(*given[:arguments])
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    count = sum(1 for parameter in parameters if parameter.kind in positional)
    if count > arguments:
        return function
    if any(parameter.name == "context" for parameter in parameters):
        return lambda *given: function(*given[:arguments], context=given[arguments])
    return lambda *given: function(*given[:arguments])


class _ScriptHandler:
    """What all scripts share: a model, and a context for each request."""

    def __init__(self, model: Any, model_dir: str, parameters: Callable[[], Any] | None) -> None:
        self.model = model
        self.model_dir = model_dir
        if parameters is not None:
            self.execution_parameters = parameters

    def ping(self) -> bool:
        return True


class TransformHandler(_ScriptHandler):
    """A script with transform_fn, which does everything."""

    def __init__(
        self,
        model: Any,
        model_dir: str,
        transform: Callable[..., Any],
        parameters: Callable[[], Any] | None,
    ) -> None:
        super().__init__(model, model_dir, parameters)
        self._transform = transform

    def invoke(
        self, body: bytes, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> Answer:
        context = Context(self.model_dir, headers)
        kind = _wanted(accept)
        result = self._transform(
            self.model, _content(body, content_type), content_type, kind, context
        )
        return _answer(result, kind, context)


class StepsHandler(_ScriptHandler):
    """A script with any of input_fn, predict_fn and output_fn; defaults fill the rest."""

    def __init__(
        self,
        model: Any,
        model_dir: str,
        functions: dict[str, Callable[..., Any]],
        parameters: Callable[[], Any] | None,
    ) -> None:
        super().__init__(model, model_dir, parameters)
        self._input = functions["input_fn"]
        self._predict = functions["predict_fn"]
        self._output = functions["output_fn"]

    def invoke(
        self, body: bytes, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> Answer:
        context = Context(self.model_dir, headers)
        kind = _wanted(accept)
        data = self._input(_content(body, content_type), content_type, context)
        prediction = self._predict(data, self.model, context)
        return _answer(self._output(prediction, kind, context), kind, context)


class RowsHandler:
    """A script that leaves the prediction to a known library: waiting rows are folded."""

    batchable = True

    def __init__(self, steps: StepsHandler, defaults: Any, given: dict[str, Any]) -> None:
        self.inline = given["input_fn"] is None and given["output_fn"] is None
        self.invoke = steps.invoke
        self.ping = steps.ping
        self.model = steps.model
        if hasattr(steps, "execution_parameters"):
            self.execution_parameters = steps.execution_parameters
        self._defaults = defaults
        # XGBoost's default input is a DMatrix, which cannot be folded: take its rows instead.
        self._read = getattr(defaults, "rows", defaults.input_fn)
        self._steps = steps
        self._given = given

    def decode(self, body: bytes, content_type: str) -> Any:
        if self._given["input_fn"] is None:
            return self._read(body, content_type)
        context = Context(self._steps.model_dir, {"content-type": content_type})
        return self._steps._input(_content(body, content_type), content_type, context)

    def predict(self, rows: Any) -> Any:
        return self._defaults.predict_fn(rows, self.model)

    def encode(self, results: Any, accept: str) -> tuple[str, bytes]:
        if self._given["output_fn"] is None:
            body, kind = self._defaults.output_fn(results, accept)
            return kind, body
        context = Context(self._steps.model_dir)
        kind = _wanted(accept)
        _, content_type, body = _answer(self._steps._output(results, kind, context), kind, context)
        return content_type, body


def _wanted(accept: str) -> str:
    return "application/json" if accept in ("", "*/*") else accept


def _content(body: bytes, content_type: str) -> Any:
    """Text types reach a user's function as text, as in the public toolkits."""
    if content_type.partition(";")[0].strip().lower() in TEXT_TYPES:
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError as problem:
            raise Rejected(400, f"The request body is not UTF-8 text: {problem}") from problem
    return body


def _answer(result: Any, accept: str, context: Context) -> Answer:
    """Turn what a function returned into a response."""
    content_type = accept
    if hasattr(result, "get_data") and hasattr(result, "status_code"):
        # A response object of the older toolkits (Flask's).
        kind = getattr(result, "content_type", None) or accept
        return int(result.status_code), kind, result.get_data()
    if isinstance(result, tuple) and len(result) == 2:
        result, content_type = result
    processor = context.request_processor[0]
    content_type = processor.response_headers.get("content-type", content_type)
    if result is None:
        result = b""
    elif isinstance(result, str):
        result = result.encode("utf-8")
    elif not isinstance(result, (bytes, bytearray, memoryview)):
        raise TypeError(
            f"output_fn returned {type(result).__name__}; it must return text or bytes, "
            "or a tuple of those and a content type"
        )
    return processor.status, content_type, bytes(result)
