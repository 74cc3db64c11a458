"""The model's regular expressions, which are Java's, as Python's."""

from __future__ import annotations

import re

_CLASSES = {
    "L": r"\w",  # letters; Python's \w adds digits and the underscore, which these patterns allow as well
    "N": r"\d",
    "Z": "\\s\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    "P": r"!-/:-@\[-`{-~\u00a1-\u00bf\u2010-\u2027\u2030-\u205e",
    "S": r"$+<=>^`|~",
    "M": "\u0300-\u036f",
    "Alnum": "a-zA-Z0-9",
    "Alpha": "a-zA-Z",
    "Digit": "0-9",
    "Print": r"\x20-\x7e",
    "Graph": r"\x21-\x7e",
    "ASCII": r"\x00-\x7f",
    "Blank": r" \t",
    "Space": r"\s",
    "IsAlphabetic": r"\w",
    "IsDigit": r"\d",
}
_PROPERTY = re.compile(r"\\p\{(\w+)\}")


def compile_pattern(pattern: str) -> re.Pattern[str] | None:
    """Compile for `fullmatch`, as the service matches; None where Python cannot say it (the server decides then)."""

    def replace(found: re.Match[str]) -> str:
        inside = pattern.count("[", 0, found.start()) > pattern.count("]", 0, found.start())
        characters = _CLASSES.get(found.group(1), r"\w")
        return characters if inside else f"[{characters}]"

    text = _PROPERTY.sub(replace, pattern).replace(r"\z", r"\Z")
    # Java reads "[a-z&&[^x]]" and nested "[[a]b]" as set operations; in these patterns "[" inside a class is literal.
    try:
        return re.compile(text)
    except re.error:
        return None
