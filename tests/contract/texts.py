"""Strings that match the model's patterns: a short one, or a long and varied one."""

from __future__ import annotations

import random
import re
from functools import cache
from re import _constants as codes  # the parsed form of a pattern has no public name
from re import _parser as parser
from typing import Any

from clary.model.patterns import compile_pattern

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789ABCXYZ-_./:@=+, (){}\"'é"
EXTRA_SHORT = (0, 1, 2, 4, 8, 12, 16, 24, 32, 36, 40, 63, 128, 256)
EXTRA_LONG = (20, 12, 8, 4, 2, 1, 0, 16, 32, 36, 40, 63, 128)
TRIES = 12


@cache
def matching_text(pattern: str, least: int, most: int, *, rich: bool) -> str:
    """A string of the wanted length that the whole pattern matches; raise LookupError if none is found."""
    compiled = compile_pattern(pattern)
    if compiled is None:
        return "a" * max(least, 1)
    tree = parser.parse(compiled.pattern)
    source = random.Random(7)
    for extra in EXTRA_LONG if rich else EXTRA_SHORT:
        for branch in range(TRIES):
            text = _sequence(tree, extra, branch, source)[:most]
            if least <= len(text) <= most and compiled.fullmatch(text):
                return text
    raise LookupError(f"no string of {least} to {most} characters was found for {pattern}")


def _sequence(tree: Any, extra: int, branch: int, source: random.Random) -> str:
    return "".join(_one(code, detail, extra, branch, source) for code, detail in tree)


def _one(code: Any, detail: Any, extra: int, branch: int, source: random.Random) -> str:
    if code is codes.LITERAL:
        return chr(detail)
    if code is codes.ANY:
        return source.choice(ALPHABET[:36])
    if code is codes.NOT_LITERAL:
        return next(one for one in ALPHABET if one != chr(detail))
    if code is codes.IN:
        return _character(detail, source)
    if code is codes.BRANCH:
        choices = detail[1]
        return _sequence(choices[branch % len(choices)], extra, branch, source)
    if code is codes.SUBPATTERN:
        return _sequence(detail[3], extra, branch, source)
    if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        least, most, inner = detail
        count = min(int(least) + extra, int(most))
        return "".join(_sequence(inner, min(extra, 2), branch, source) for _ in range(count))
    if code is codes.ATOMIC_GROUP:
        return _sequence(detail, extra, branch, source)
    # Anchors and look-arounds take no characters; whether they hold is seen in the end.
    return ""


def _character(items: Any, source: random.Random) -> str:
    negated = items[0][0] is codes.NEGATE
    allowed = [one for one in ALPHABET if _is_in(items, one) != negated]
    if not allowed:
        first = next(detail for code, detail in items if code is not codes.NEGATE)
        return chr(first if isinstance(first, int) else first[0])
    return source.choice(allowed[:36])


def _is_in(items: Any, character: str) -> bool:
    for code, detail in items:
        if code is codes.LITERAL and chr(detail) == character:
            return True
        if code is codes.RANGE and detail[0] <= ord(character) <= detail[1]:
            return True
        if code is codes.CATEGORY and re.match(_CATEGORIES[detail], character):
            return True
    return False


_CATEGORIES = {
    codes.CATEGORY_DIGIT: r"\d",
    codes.CATEGORY_NOT_DIGIT: r"\D",
    codes.CATEGORY_SPACE: r"\s",
    codes.CATEGORY_NOT_SPACE: r"\S",
    codes.CATEGORY_WORD: r"\w",
    codes.CATEGORY_NOT_WORD: r"\W",
}
