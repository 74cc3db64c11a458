"""What commands print: results on stdout, problems with their remedy on stderr, one next step."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


class Problem(Exception):
    """Something the user can mend; `remedy` says how."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def say(text: str = "") -> None:
    print(text, flush=True)


def note(text: str) -> None:
    """For the reader, not for a pipe."""
    print(text, file=sys.stderr, flush=True)


def next_step(text: str) -> None:
    note(f"{_bold('Next:')} {text}")


def emit_json(document: Any) -> None:
    say(json.dumps(document, indent=2, default=str))


def report(problem: Problem) -> None:
    note(f"{_bold('Error:')} {problem.message}")
    if problem.remedy:
        note(f"{_bold('Remedy:')} {problem.remedy}")


def _bold(text: str) -> str:
    wanted = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return f"\033[1m{text}\033[0m" if wanted else text
