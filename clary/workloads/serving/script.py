"""A user's inference script: model_fn, input_fn, predict_fn, output_fn or transform_fn."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from clary.workloads.serving.context import Context
from clary.workloads.serving.handlers import Answer, Handler, Rejected
from clary.workloads.serving.isolation import Isolation, Isolations
from clary.workloads.serving.streams import is_stream

DEFAULT_PROGRAM = "inference.py"
DEFAULTS = {
    "sklearn": "clary.workloads.serving.sklearn_defaults",
    "xgboost": "clary.workloads.serving.xgboost_defaults",
    "pytorch": "clary.workloads.serving.pytorch_defaults",
    "huggingface": "clary.workloads.serving.huggingface_defaults",
    "tensorflow": "clary.workloads.serving.tensorflow_defaults",
}
TEXT_TYPES = ("application/json", "text/csv")
STEPS = ("input_fn", "predict_fn", "output_fn")


class ScriptError(Exception):
    """The user's script cannot serve; the message says what to change."""


@dataclass(frozen=True)
class Code:
    """Where a model's own code is, and the module that serves it."""

    module: str
    paths: tuple[str, ...]


def load_script(model_dir: str, framework: str, environ: Mapping[str, str]) -> Handler:
    """Import the user's code, if there is any, and let it load the model."""
    code = locate(model_dir, framework, environ)
    if code is None:
        return make_handler(None, model_dir, framework)
    sys.path[:0] = reversed(code.paths)
    return make_handler(importlib.import_module(code.module), model_dir, framework)


def load_isolated(
    model_dir: str, framework: str, environ: Mapping[str, str], shared: Isolations
) -> Handler:
    """Load one of several models: its code's modules are seen by nobody else."""
    code = locate(model_dir, framework, environ)
    if code is None:
        return make_handler(None, model_dir, framework)
    isolation = Isolation([*reversed(code.paths)], shared)
    with isolation.loading():
        return make_handler(importlib.import_module(code.module), model_dir, framework)


def locate(model_dir: str, framework: str, environ: Mapping[str, str]) -> Code | None:
    """The user's code, staged; None where the framework's defaults do without."""
    program = program_of(model_dir, environ)
    if not program:
        if getattr(_defaults(framework), "NEEDS_SCRIPT", True):
            raise ScriptError("SAGEMAKER_PROGRAM must name the script that serves the model.")
        return None
    code = stage(model_dir, environ)
    name = program[:-3] if program.endswith(".py") else program
    return Code(name.replace("/", "."), (str(code), *_packages(code)))


def program_of(model_dir: str, environ: Mapping[str, str]) -> str:
    """The script's name: what the environment says, else `inference.py` where a model brings it."""
    named = environ.get("SAGEMAKER_PROGRAM")
    if named:
        return named
    return DEFAULT_PROGRAM if (Path(model_dir) / "code" / DEFAULT_PROGRAM).is_file() else ""


def stage(model_dir: str, environ: Mapping[str, str]) -> Path:
    """Return the directory of the user's code, downloaded if it is an archive in S3.

    A model that brings the code itself is served by that: with several models, the environment's
    code is for those that have none.
    """
    program = environ.get("SAGEMAKER_PROGRAM") or DEFAULT_PROGRAM
    own = Path(model_dir) / "code"
    source = environ.get("SAGEMAKER_SUBMIT_DIRECTORY") or str(own)
    if source.startswith("file://"):
        source = source[len("file://") :]
    several = environ.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true"
    if several and ((own / program).is_file() or source == "/opt/ml/model/code"):
        source = str(own)
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


def make_handler(module: ModuleType | None, model_dir: str, framework: str) -> Handler:
    """Return the handler of a script, or of the defaults alone, with its model loaded."""
    defaults = _defaults(framework)
    own = getattr(defaults, "make_handler", None)
    if own is not None:
        return own(module, model_dir)  # whose scripts define other functions
    transform = getattr(module, "transform_fn", None)
    steps = {name: getattr(module, name, None) for name in STEPS}
    if transform is not None and any(steps.values()):
        raise ScriptError(
            "Cannot use transform_fn implementation with input_fn, predict_fn, and/or output_fn"
        )
    load = getattr(module, "model_fn", None) or getattr(defaults, "model_fn", None)
    if load is None:
        raise ScriptError(f"{_name(module)} must define model_fn.")
    model = _adapt(load, 1)(model_dir, Context(model_dir))
    parameters = getattr(module, "execution_parameters_fn", None)
    if transform is not None:
        return TransformHandler(model, model_dir, _adapt(transform, 4), parameters)
    if defaults is None and not all(steps.values()):
        missing = ", ".join(name for name, step in steps.items() if step is None)
        raise ScriptError(f"{_name(module)} must define {missing}.")
    functions = {name: _adapt(step or getattr(defaults, name), 2) for name, step in steps.items()}
    handler = StepsHandler(model, model_dir, functions, parameters)
    handler.streams_predictions = steps["output_fn"] is None
    if steps["predict_fn"] is None and defaults is not None and defaults.is_rowwise(model):
        return RowsHandler(handler, defaults, steps)
    return handler


def survives_no_fork(framework: str) -> bool:
    """Whether a model has threads that it misses in a fork: then each process loads its own."""
    return bool(getattr(_defaults(framework), "LOADED_BY_EACH_PROCESS", False))


def _defaults(framework: str) -> Any:
    name = DEFAULTS.get(framework)
    return importlib.import_module(name) if name else None


def _name(module: ModuleType | None) -> str:
    return module.__name__ if module is not None else "The script"


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

    # Whether an iterator from predict_fn is the answer itself: no output_fn of the user's takes it.
    streams_predictions = False

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
        if self.streams_predictions and is_stream(prediction):
            return _answer(prediction, kind, context)
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
    if is_stream(result):
        return processor.status, content_type, result
    if result is None:
        result = b""
    elif isinstance(result, str):
        result = result.encode("utf-8")
    elif not isinstance(result, (bytes, bytearray, memoryview)):
        raise TypeError(
            f"output_fn returned {type(result).__name__}; it must return text or bytes, "
            "an iterator of these, or a tuple of those and a content type"
        )
    return processor.status, content_type, bytes(result)
