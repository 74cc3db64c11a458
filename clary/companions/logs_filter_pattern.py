"""Filter patterns of CloudWatch Logs: terms and JSON conditions, compiled to a test of one message.

pattern   = terms | "{" either "}"
terms     = { ["?" | "-"] (word | '"' phrase '"') }        all of them; any of the "?" ones; none of the "-" ones
either    = both { "||" both }
both      = condition { "&&" condition }
condition = "(" either ")" | selector (operator value | IS NULL|TRUE|FALSE | [NOT] EXISTS)
selector  = "$" { "." name | "[" number "]" }
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from fnmatch import translate
from typing import Any

import orjson

Test = Callable[[str], bool]
Condition = Callable[[Any], bool]

NESTING_MAX = 32
_TERM = re.compile(r'\s*(?P<sign>[?-]?)(?:"(?P<phrase>(?:[^"\\]|\\.)*)"|(?P<word>[^\s"]+))')
_TOKEN = re.compile(
    r"\s*(?:(?P<selector>\$(?:\.[\w@:-]+|\[\d+\]|\[\'[^\']*\'\])*)|(?P<operator>&&|\|\||[<>!]=|[=<>()])"
    r'|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>[^\s()=<>!&|"]+))'
)
_STEP = re.compile(r"\.([\w@:-]+)|\[(\d+)\]|\['([^']*)'\]")
_ABSENT = object()
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class InvalidPattern(Exception):
    """The pattern cannot be read; the text says where."""


def compile_pattern(pattern: str) -> Test:
    """A test for messages; raise InvalidPattern."""
    text = pattern.strip()
    if not text:
        return lambda message: True
    if text.startswith("{"):
        if not text.endswith("}"):
            raise InvalidPattern("a JSON pattern ends with a closing brace")
        return _json_test(_Conditions(text[1:-1]).whole())
    if text.startswith("[") and text.endswith("]"):
        raise InvalidPattern("patterns of space-delimited fields are not supported")
    if text.startswith("%"):
        raise InvalidPattern("regular expressions are not supported")
    return _terms(text)


def _terms(text: str) -> Test:
    every: list[str] = []
    some: list[str] = []
    none: list[str] = []
    position = 0
    while position < len(text):
        found = _TERM.match(text, position)
        if found is None:
            raise InvalidPattern(f"a quote is not closed at character {position + 1}")
        phrase = found["phrase"]
        term = found["word"] if phrase is None else _unescaped(phrase)
        {"": every, "?": some, "-": none}[found["sign"]].append(term)
        position = found.end()
    if every or none:
        some = []  # AWS documents that "?" terms beside others are ignored

    def test(message: str) -> bool:
        return (
            all(term in message for term in every)
            and not any(term in message for term in none)
            and (not some or any(term in message for term in some))
        )

    return test


def _json_test(condition: Condition) -> Test:
    def test(message: str) -> bool:
        if not message.lstrip().startswith(("{", "[")):
            return False
        try:
            document = orjson.loads(message)
        except orjson.JSONDecodeError:
            return False
        return condition(document)

    return test


class _Conditions:
    """The inside of the braces, read by recursive descent."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._position = 0
        self._depth = 0

    def whole(self) -> Condition:
        condition = self._either()
        if self._position < len(self._tokens):
            raise InvalidPattern(f"{self._tokens[self._position][1]!r} is not expected here")
        return condition

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._take("||"):
            parts.append(self._both())
        return lambda document: any(part(document) for part in parts)

    def _both(self) -> Condition:
        parts = [self._condition()]
        while self._take("&&"):
            parts.append(self._condition())
        return lambda document: all(part(document) for part in parts)

    def _condition(self) -> Condition:
        if self._take("("):
            self._depth += 1
            if self._depth > NESTING_MAX:
                raise InvalidPattern(f"parentheses are nested more than {NESTING_MAX} deep")
            inner = self._either()
            if not self._take(")"):
                raise InvalidPattern("a parenthesis is not closed")
            self._depth -= 1
            return inner
        kind, text = self._next()
        if kind != "selector":
            raise InvalidPattern(f"a selector such as $.name is expected, not {text!r}")
        return self._comparison(_steps(text))

    def _comparison(self, steps: list[str | int]) -> Condition:
        kind, text = self._next()
        if kind == "word":
            return self._keyword(steps, text.upper())
        if text not in ("=", "!=", *_ORDER):
            raise InvalidPattern(f"an operator is expected, not {text!r}")
        kind, value = self._next()
        if kind not in ("word", "quoted"):
            raise InvalidPattern(f"a value is expected, not {value!r}")
        return _compared(steps, text, value, quoted=kind == "quoted")

    def _keyword(self, steps: list[str | int], word: str) -> Condition:
        if word == "EXISTS":
            return lambda document: _at(document, steps) is not _ABSENT
        second = self._next()[1].upper()
        if (word, second) == ("NOT", "EXISTS"):
            return lambda document: _at(document, steps) is _ABSENT
        if word == "IS" and second in ("NULL", "TRUE", "FALSE"):
            wanted = {"NULL": None, "TRUE": True, "FALSE": False}[second]
            return lambda document: _at(document, steps) is wanted
        raise InvalidPattern(f"{word} {second} is not a condition")

    def _take(self, text: str) -> bool:
        if self._position < len(self._tokens) and self._tokens[self._position] == (
            "operator",
            text,
        ):
            self._position += 1
            return True
        return False

    def _next(self) -> tuple[str, str]:
        if self._position == len(self._tokens):
            raise InvalidPattern("the pattern ends too early")
        token = self._tokens[self._position]
        self._position += 1
        return token


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    text = text.rstrip()
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None or found.lastgroup is None:
            raise InvalidPattern(f"{text[position:].strip()[:20]!r} cannot be read")
        value = found[found.lastgroup]
        tokens.append(
            (found.lastgroup, _unescaped(value) if found.lastgroup == "quoted" else value)
        )
        position = found.end()
    return tokens


def _steps(selector: str) -> list[str | int]:
    return [
        int(index) if index else name or quoted
        for name, index, quoted in _STEP.findall(selector[1:])
    ]


def _at(document: Any, steps: list[str | int]) -> Any:
    found: Any = document
    for step in steps:
        holder = dict if isinstance(step, str) else list
        if not isinstance(found, holder):
            return _ABSENT
        inside: Any = found
        if step not in (inside if holder is dict else range(len(inside))):
            return _ABSENT
        found = inside[step]
    return found


def _compared(steps: list[str | int], sign: str, text: str, *, quoted: bool) -> Condition:
    number = None if quoted else _number(text)
    if sign in _ORDER:
        if number is None:
            raise InvalidPattern(f"{sign} compares with a number, not with {text!r}")
        order = _ORDER[sign]

        def ordered(document: Any) -> bool:
            value = _at(document, steps)
            return _is_number(value) and order(value, number)

        return ordered
    glob = re.compile(translate(_without_classes(text))) if "*" in text else None

    def equal(value: Any) -> bool:
        if number is not None and _is_number(value):
            return bool(value == number)
        shown = value if isinstance(value, str) else orjson.dumps(value).decode()
        return glob.match(shown) is not None if glob else shown == text

    if sign == "=":
        return lambda document: (value := _at(document, steps)) is not _ABSENT and equal(value)
    return lambda document: (value := _at(document, steps)) is not _ABSENT and not equal(value)


def _without_classes(text: str) -> str:
    """Only `*` is special in CloudWatch Logs."""
    return text.replace("[", "[[]").replace("?", "[?]")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
