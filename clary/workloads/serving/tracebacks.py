"""Tracebacks as the author of a model wants them: without the frames of the server around the model."""

from __future__ import annotations

import logging
import os
import re
import traceback
from typing import Any

# The folder of the package `clary`: this file is three folders below it.
OWN = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep  # noqa: PTH100, PTH120
_OWN_NAME = re.compile(r"^clary(?:\.\w+)+\.(?=\w+(?::|$))", re.MULTILINE)
_IMPORTS = ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
_IMPORTLIB = os.path.join("importlib", "__init__.py")  # noqa: PTH118


class UsersTracebacks(logging.Formatter):
    """Writes exceptions without the frames that are not the user's."""

    def formatException(self, ei: Any) -> str:
        return formatted(ei[1])


def formatted(problem: BaseException) -> str:
    """The traceback of an exception, and of what it came of."""
    told = traceback.TracebackException.from_exception(problem)
    _cut(told, set())
    alone = not told.stack and told.__cause__ is None and told.__context__ is None
    text = "".join(told.format_exception_only() if alone else told.format())
    return _OWN_NAME.sub("", text).rstrip("\n")


def _cut(told: traceback.TracebackException, seen: set[int]) -> None:
    if id(told) in seen:
        return
    seen.add(id(told))
    kept = [frame for frame in told.stack if not _is_own(frame.filename)]
    told.stack = traceback.StackSummary.from_list(kept)
    for cause in (told.__cause__, told.__context__):
        if cause is not None:
            _cut(cause, seen)


def _is_own(path: str) -> bool:
    return path.startswith(OWN) or path in _IMPORTS or path.endswith(os.sep + _IMPORTLIB)
