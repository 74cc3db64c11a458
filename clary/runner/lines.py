"""A program's line as CloudWatch shows it: control characters as `#` and three octal digits."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x1f\x7f]")


def shown(line: bytes) -> str:
    """The line's text: a tab is `#011`, as metric definitions of built-in algorithms expect."""
    text = line.rstrip(b"\r\n").decode("utf-8", "replace")
    return text if text.isprintable() else _CONTROL.sub(_octal, text)


def _octal(found: re.Match[str]) -> str:
    return f"#{ord(found.group()):03o}"
