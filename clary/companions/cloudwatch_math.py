"""Metric math: the expressions of GetMetricData and of alarms.

    either     = both { ("OR" | "||") both }
    both       = comparison { ("AND" | "&&") comparison }
    comparison = sum [ ("<" | "<=" | ">" | ">=" | "==" | "!=") sum ]
    sum        = product { ("+" | "-") product }
    product    = power { ("*" | "/" | "%") power }
    power      = sign [ "^" power ]
    sign       = [ "-" ] atom
    atom       = number | id | FUNCTION "(" arguments ")" | "[" arguments "]" | "(" either ")" | '"' text '"'

Series meet at the times that both have. A value that is no number (a division by zero) is left out.
"""

from __future__ import annotations

import math
import operator
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

GRID_POINTS_MAX = 100_800
NESTING_MAX = 24

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)|(?P<word>[A-Za-z]\w*)"
    r'|"(?P<quoted>[^"]*)"|\'(?P<single>[^\']*)\'|(?P<sign><=|>=|==|!=|&&|\|\||[-+*/%^()\[\],<>]))'
)


class ExpressionError(Exception):
    """The expression cannot be read or makes no sense; the text says why."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values by the second in which their period begins."""

    period: int
    points: dict[int, float] = field(default_factory=dict[int, float])


Operand = float | Series
Value = float | Series | str | list[Operand]
Reader = Callable[[str], Series]
Range = Callable[[int], tuple[int, int]]


def evaluate_expression(
    text: str,
    series: Reader,
    metrics: Callable[[], list[str]],
    span: Range,
    period: int | None = None,
) -> Series:
    """The series of an expression; raise ExpressionError.

    `series` reads another query by its Id, `metrics` names those that are no expressions, `span` is
    the time range for a period.
    """
    reader = _Reader(text, series, metrics, span)
    value = reader.whole()
    if isinstance(value, Series):
        return value
    if isinstance(value, float):
        # A number alone stands at every time of the metrics that the expression names.
        times = sorted({when for one in reader.used for when in one.points})
        longest = max((one.period for one in reader.used), default=period or 60)
        return Series(longest, dict.fromkeys(times, value) if math.isfinite(value) else {})
    raise ExpressionError("the result must be one time series")


class _Reader:
    """Reads and works out at once, by recursive descent."""

    def __init__(
        self, text: str, series: Reader, metrics: Callable[[], list[str]], span: Range
    ) -> None:
        self._tokens = _tokens(text)
        self._position = 0
        self._depth = 0
        self._series = series
        self._metrics = metrics
        self._span = span
        self.used: list[Series] = []

    def whole(self) -> Value:
        value = self._either()
        if self._position < len(self._tokens):
            raise ExpressionError(f"{self._tokens[self._position][1]!r} is not expected here")
        return value

    def _either(self) -> Value:
        value = self._both()
        while self._take("||", "OR"):
            value = _binary(lambda a, b: float(bool(a or b)), value, self._both())
        return value

    def _both(self) -> Value:
        value = self._comparison()
        while self._take("&&", "AND"):
            value = _binary(lambda a, b: float(bool(a and b)), value, self._comparison())
        return value

    def _comparison(self) -> Value:
        value = self._sum()
        sign = self._take(*_COMPARISONS)
        if not sign:
            return value
        compare = _COMPARISONS[sign]
        return _binary(lambda a, b: float(compare(a, b)), value, self._sum())

    def _sum(self) -> Value:
        value = self._product()
        while sign := self._take("+", "-"):
            value = _binary(_ARITHMETIC[sign], value, self._product())
        return value

    def _product(self) -> Value:
        value = self._power()
        while sign := self._take("*", "/", "%"):
            value = _binary(_ARITHMETIC[sign], value, self._power())
        return value

    def _power(self) -> Value:
        self._deeper()
        value = self._signed()
        if self._take("^"):
            value = _binary(_ARITHMETIC["^"], value, self._power())
        self._depth -= 1
        return value

    def _signed(self) -> Value:
        negative = False
        while self._take("-"):
            negative = not negative
        value = self._atom()
        return _binary(operator.mul, -1.0, value) if negative else value

    def _atom(self) -> Value:
        kind, text = self._next()
        match kind:
            case "number":
                return float(text)
            case "quoted" | "single":
                return text
            case "word":
                return self._call(text.upper()) if self._take("(") else self._named(text)
            case _ if text == "(":
                value = self._either()
                self._expect(")")
                return value
            case _ if text == "[":
                return _operands(self._arguments("]"))
            case _:
                raise ExpressionError(f"{text!r} is not expected here")

    def _named(self, name: str) -> Series:
        found = self._series(name)
        self.used.append(found)
        return found

    def _call(self, name: str) -> Value:
        if name == "METRICS":
            arguments = self._arguments(")")
            part = arguments[0] if arguments and isinstance(arguments[0], str) else ""
            return [self._named(one) for one in self._metrics() if part in one]
        if name == "FILL":
            return self._fill()
        function = _FUNCTIONS.get(name)
        if function is None:
            raise ExpressionError(f"the function {name} is not supported")
        return function(self._arguments(")"))

    def _fill(self) -> Value:
        what = self._either()
        self._expect(",")
        kind, text = (
            self._tokens[self._position] if self._position < len(self._tokens) else ("", "")
        )
        mode = text.upper() if kind == "word" and text.upper() in ("REPEAT", "LINEAR") else ""
        if mode:
            self._position += 1
        by = mode or _scalar(self._either())
        self._expect(")")
        if isinstance(what, list):
            return [_filled(_one_series(one), by, self._span) for one in what]
        return _filled(_one_series(what), by, self._span)

    def _arguments(self, closing: str) -> list[Value]:
        found: list[Value] = []
        if self._take(closing):
            return found
        while True:
            found.append(self._either())
            if self._take(closing):
                return found
            self._expect(",")

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise ExpressionError(f"it is nested more than {NESTING_MAX} deep")

    def _take(self, *texts: str) -> str:
        if self._position < len(self._tokens):
            kind, text = self._tokens[self._position]
            if (kind == "sign" and text in texts) or (kind == "word" and text.upper() in texts):
                self._position += 1
                return text
        return ""

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise ExpressionError(f"{text!r} is missing")

    def _next(self) -> tuple[str, str]:
        if self._position == len(self._tokens):
            raise ExpressionError("it ends too early")
        self._position += 1
        return self._tokens[self._position - 1]


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    text = text.rstrip()
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None or found.lastgroup is None:
            raise ExpressionError(f"{text[position:].strip()[:20]!r} cannot be read")
        tokens.append((found.lastgroup, found[found.lastgroup]))
        position = found.end()
    return tokens


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
    "^": operator.pow,
}


def _binary(function: Callable[[float, float], float], left: Value, right: Value) -> Value:
    """One operation, element by element."""
    if isinstance(left, str) or isinstance(right, str):
        raise ExpressionError("a text is no operand")
    if isinstance(left, list):
        return [_operand(_binary(function, one, right)) for one in left]
    if isinstance(right, list):
        return [_operand(_binary(function, left, one)) for one in right]
    if isinstance(left, float) and isinstance(right, float):
        return _number(function, left, right)
    if isinstance(left, Series) and isinstance(right, Series):
        times = left.points.keys() & right.points.keys()
        period = max(left.period, right.period)
        pairs = {when: (left.points[when], right.points[when]) for when in times}
    elif isinstance(left, Series):
        assert isinstance(right, float)
        period, pairs = left.period, {when: (one, right) for when, one in left.points.items()}
    else:
        assert isinstance(left, float) and isinstance(right, Series)
        period, pairs = right.period, {when: (left, one) for when, one in right.points.items()}
    return _finite(period, {when: _number(function, a, b) for when, (a, b) in pairs.items()})


def _number(function: Callable[..., float], *values: float) -> float:
    """The result, or NaN where there is none."""
    try:
        result = function(*values)
    except (ArithmeticError, ValueError):
        return math.nan
    return float(result) if isinstance(result, int | float) else math.nan


def _finite(period: int, points: dict[int, float]) -> Series:
    return Series(period, {when: points[when] for when in sorted(points) if _kept(points[when])})


def _kept(value: float) -> bool:
    return math.isfinite(value)


def _operands(values: Sequence[Value]) -> list[Operand]:
    found: list[Operand] = []
    for value in values:
        if isinstance(value, list):
            found.extend(value)
        else:
            found.append(_operand(value))
    return found


def _operand(value: Value) -> Operand:
    if isinstance(value, float | Series):
        return value
    raise ExpressionError("a number or a time series is expected")


def _scalar(value: Value) -> float:
    if isinstance(value, float):
        return value
    raise ExpressionError("a number is expected")


def _one_series(value: Value) -> Series:
    if isinstance(value, Series):
        return value
    raise ExpressionError("a time series is expected")


def _aggregate(function: Callable[[list[float]], float]) -> Callable[[list[Value]], Value]:
    """Of one series: a number. Of several: a series, of what each time has."""

    def apply(arguments: list[Value]) -> Value:
        if len(arguments) == 1 and isinstance(arguments[0], Series):
            values = list(arguments[0].points.values())
            return _number(function, values) if values else math.nan  # type: ignore[arg-type]
        operands = _operands(arguments)
        series = [one for one in operands if isinstance(one, Series)]
        numbers = [one for one in operands if isinstance(one, float)]
        if not series:
            if not numbers:
                return Series(60)
            return _number(function, numbers)  # type: ignore[arg-type]
        times = {when for one in series for when in one.points}
        period = max(one.period for one in series)
        points = {
            when: _number(
                function,
                [*numbers, *(one.points[when] for one in series if when in one.points)],  # type: ignore[arg-type]
            )
            for when in times
        }
        return _finite(period, points)

    return apply


def _each(function: Callable[[float], float]) -> Callable[[list[Value]], Value]:
    def apply(arguments: list[Value]) -> Value:
        if len(arguments) != 1:
            raise ExpressionError("one argument is expected")
        return _binary(lambda value, _: function(value), arguments[0], 0.0)

    return apply


def _steps(function: Callable[[float, float, int], float]) -> Callable[[list[Value]], Value]:
    """Of each value and the one before it, and the seconds between them."""

    def of_one(series: Series) -> Series:
        ordered = sorted(series.points.items())
        points = {
            when: _number(function, before, value, when - last)  # type: ignore[arg-type]
            for (last, before), (when, value) in pairwise(ordered)
        }
        return _finite(series.period, points)

    def apply(arguments: list[Value]) -> Value:
        if len(arguments) != 1:
            raise ExpressionError("one argument is expected")
        if isinstance(arguments[0], list):
            return [of_one(_one_series(one)) for one in arguments[0]]
        return of_one(_one_series(arguments[0]))

    return apply


def _if(arguments: list[Value]) -> Value:
    """IF(condition, then[, else]); without an else, times that do not hold are left out."""
    if len(arguments) not in (2, 3):
        raise ExpressionError("IF takes two or three arguments")
    condition, then = _operand(arguments[0]), _operand(arguments[1])
    other = _operand(arguments[2]) if len(arguments) == 3 else math.nan
    if not isinstance(condition, Series):
        return then if condition else other
    points: dict[int, float] = {}
    for when, holds in condition.points.items():
        chosen = then if holds else other
        points[when] = chosen.points.get(when, math.nan) if isinstance(chosen, Series) else chosen
    return _finite(condition.period, points)


def _running_sum(arguments: list[Value]) -> Value:
    series = _one_series(arguments[0]) if len(arguments) == 1 else _one_series("")
    total = 0.0
    points: dict[int, float] = {}
    for when in sorted(series.points):
        total += series.points[when]
        points[when] = total
    return Series(series.period, points)


def _at_end(index: int) -> Callable[[list[Value]], Value]:
    def apply(arguments: list[Value]) -> Value:
        if len(arguments) != 1:
            raise ExpressionError("one argument is expected")
        operands = _operands(arguments)
        if isinstance(arguments[0], list):
            return operands[index] if operands else Series(60)
        points = sorted(_one_series(arguments[0]).points.items())
        return points[index][1] if points else math.nan

    return apply


def _period(arguments: list[Value]) -> Value:
    if len(arguments) != 1:
        raise ExpressionError("PERIOD takes one time series")
    return float(_one_series(arguments[0]).period)


def _filled(series: Series, by: str | float, span: Range) -> Series:
    """Every period of the time range; REPEAT and LINEAR need a value before the gap."""
    start, end = span(series.period)
    if (end - start) // series.period > GRID_POINTS_MAX:
        raise ExpressionError(f"FILL would make more than {GRID_POINTS_MAX} datapoints")
    known = sorted(series.points)
    filled = dict(series.points)
    following = 0
    for when in range(start, end, series.period):
        while following < len(known) and known[following] <= when:
            following += 1
        if when in series.points:
            continue
        if isinstance(by, float):
            filled[when] = by
        elif following:
            before = known[following - 1]
            value = series.points[before]
            if by == "LINEAR" and following < len(known):
                after = known[following]
                rise = series.points[after] - value
                value += rise * (when - before) / (after - before)
            filled[when] = value
    return Series(series.period, dict(sorted(filled.items())))


_FUNCTIONS: dict[str, Callable[[list[Value]], Value]] = {
    "SUM": _aggregate(sum),
    "AVG": _aggregate(statistics.fmean),
    "MIN": _aggregate(min),
    "MAX": _aggregate(max),
    "STDDEV": _aggregate(statistics.pstdev),
    "DATAPOINT_COUNT": _aggregate(lambda values: float(len(values))),
    "ABS": _each(abs),
    "CEIL": _each(math.ceil),
    "FLOOR": _each(math.floor),
    "LOG": _each(math.log),
    "LOG10": _each(math.log10),
    "DIFF": _steps(lambda before, value, _: value - before),
    "DIFF_TIME": _steps(lambda _before, _value, seconds: float(seconds)),
    "RATE": _steps(lambda before, value, seconds: (value - before) / seconds),
    "RUNNING_SUM": _running_sum,
    "FIRST": _at_end(0),
    "LAST": _at_end(-1),
    "PERIOD": _period,
    "IF": _if,
}
