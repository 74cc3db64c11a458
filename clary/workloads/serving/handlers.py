"""The contract between the model server and whatever answers its invocations.

A *handler* is any object with

    ping() -> bool
        True while the model can answer. Called on the event loop: it must return at once.
    invoke(body: bytes, content_type: str, accept: str, headers) -> (status, content_type, body)
        Answer one request. Called from one thread at a time, never twice at once in a process. It
        raises `Rejected` to refuse a request; any other exception is answered with status 500, or
        507 where memory ran out. The body may be an iterator of bytes or text: it is sent as it
        comes, `next` is called in the same way, and `close` if the client goes before the end.

and, where many waiting rows may be predicted in one call,

    batchable = True
    decode(body, content_type) -> array      one row a request row, the first axis counts rows
    predict(rows) -> array                   as many results as rows, in their order
    encode(results, accept) -> (content_type, bytes)

`decode` and `encode` see one request; `predict` sees the rows of several. A request that cannot
be decoded fails alone. If a folded prediction raises, or does not return one result for each row,
every request in it is predicted again alone, so a bad row never spoils another's answer.

Optional members:

    inline = False              decode or encode run foreign code: keep them off the event loop
    execution_parameters()      what GET /execution-parameters answers; without it, 404

`headers` maps lower-case names to text and must not be changed. `accept` is the request's Accept
header, or `*/*`. Handlers are loaded by `load_handler`, named as `module:attribute`. The attribute
is a callable that takes the model's directory and returns a handler, or an object whose
`load(model_dir)` returns one (or None, to mean the object itself).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    Answer = tuple[int, str, Any]
else:
    # Python 3.8 cannot subscript the built-in type when the module is run.
    Answer = tuple


class Rejected(Exception):
    """A request that is refused with an HTTP status and a reason that the client may read."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Handler(Protocol):
    """What every handler has; the module's docstring is the contract."""

    def ping(self) -> bool: ...

    def invoke(
        self, body: bytes, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> Answer: ...


class BatchHandler(Handler, Protocol):
    """What a handler has whose waiting rows may be predicted together."""

    batchable: bool

    def decode(self, body: bytes, content_type: str) -> Any: ...

    def predict(self, rows: Any) -> Any: ...

    def encode(self, results: Any, accept: str) -> tuple[str, bytes]: ...


def load_handler(name: str, model_dir: str) -> Handler:
    """Import `module:attribute` and let it load the model."""
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise ValueError(f"a handler is named module:attribute, not {name!r}")
    made = getattr(importlib.import_module(module_name), attribute)
    if hasattr(made, "load") and not isinstance(made, type):
        return made.load(model_dir) or made
    return made(model_dir)
