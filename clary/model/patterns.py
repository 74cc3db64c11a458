"""The model's regular expressions, which are Java's, as Python's."""

from __future__ import annotations

import re

_CLASSES = {
    "L": r"\w",  # letters; Python's \w adds digits and the underscore, which these patterns allow as well
    "N": r"\d",
    "Z": "\\s\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    "P": r"!-#%-*,-/:;?@\[-\]_{}\u00a1\u00a7\u00ab\u00b6\u00b7\u00bb\u00bf\u2010-\u2027\u2030-\u205e",
    "S": r"$+<=>^`|~\u00a2-\u00a6\u00a8\u00a9\u00ac\u00ae-\u00b1\u00b4\u00d7\u00f7\u20a0-\u20bf",
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
# What Java spells otherwise, or allows where Python does not.
_SPELLINGS = (
    (re.compile(r"\\z"), r"\\Z"),
    # Surrogate pairs: the characters beyond the first plane.
    (re.compile(r"\\uD800\\uDC00-\\uDBFF\\uDFFF"), r"\\U00010000-\\U0010FFFF"),
    # A repeated end is an end.
    (re.compile(r"\$\{\d+,\d+\}"), "$"),
    # A hyphen after a class of characters is a hyphen.
    (re.compile(r"(\\[wds])-(?=[^\]])"), r"\1\-"),
)
# Patterns that backtrack for hours over a short hostile value, and others that allow the same strings.
_TAMED = {
    r"[a-z0-9]([-a-z0-9]*[a-z0-9]){0,39}?": r"[a-z0-9]([-a-z0-9]*[a-z0-9])?",
    r"^[a-z0-9*](?:[._\-/a-z0-9*]?[a-z0-9*]+)*$": r"^[a-z0-9*]+(?:[._\-/][a-z0-9*]+)*$",
}
_PROPERTY = re.compile(r"\\p\{(\w+)\}")


def compile_pattern(pattern: str) -> re.Pattern[str] | None:
    """Compile for `fullmatch`, as the service matches; None where Python cannot say it (the server decides then)."""

    pattern = _TAMED.get(pattern, pattern)

    def replace(found: re.Match[str]) -> str:
        inside = pattern.count("[", 0, found.start()) > pattern.count("]", 0, found.start())
        characters = _CLASSES.get(found.group(1), r"\w")
        return characters if inside else f"[{characters}]"

    text = _PROPERTY.sub(replace, pattern)
    for java, python in _SPELLINGS:
        text = java.sub(python, text)
    # Java reads "[a-z&&[^x]]" and nested "[[a]b]" as set operations; in these patterns "[" inside a class is literal.
    # \w, \d and \s are of ASCII in Java; only the properties above reach further.
    try:
        return re.compile(text, 0 if r"\p{" in pattern else re.ASCII)
    except re.error:
        return None
