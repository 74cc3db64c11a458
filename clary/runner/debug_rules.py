"""Debugger rules evaluated from what a job logs: each metric's values in order, and words such as `loss=nan`.

SageMaker's rules read tensors that a hook saves. Those whose question the logged metrics answer as well
are evaluated here; the others are told to be unanswerable, never to have found nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .metrics import Datapoint

VALUES_MAX = 100_000  # of one metric; a rule looks at the newest
DETAILS_CHARACTERS_MAX = 1_024
FINDINGS = "debug rules"  # where an outcome keeps them, among what a host made
NO_ISSUES, ISSUES, ERROR = "NoIssuesFound", "IssuesFound", "Error"
_LOSS = re.compile(r"loss|error|rmse|rmsle|\bmse\b|\bmae\b|deviance|entropy|perplexity", re.I)
_VALIDATION = re.compile(r"valid|val_|\bval\b|eval|test", re.I)
_NOT_FINITE = re.compile(
    r"(?<![\w.])([\w:/.-]*(?:loss|error|grad|rmse|mse|mae|perplexity)[\w/.-]*(?::[\w/.-]+)*)"
    r"['\"]?\s*[=:]?\s*([-+]?(?:nan|inf(?:inity)?))(?![\w.])",
    re.I,
)
_LINE_BYTES_MAX = 2 * 1024  # the expression above takes quadratic time

Series = Mapping[str, Sequence[float]]


class Rule(NamedTuple):
    """One DebugRuleConfiguration."""

    name: str
    invoked: str  # LossNotDecreasing, Overfit, ...
    parameters: Mapping[str, str]

    @property
    def stops_training(self) -> bool:
        """Built-in actions come as JSON in `action_json`: one action, or a list under `actions`."""
        try:
            told = json.loads(self.parameters.get("action_json") or "{}")
        except ValueError:
            return False
        actions = told.get("actions", [told]) if isinstance(told, dict) else told
        names = [one.get("name") for one in actions if isinstance(one, dict)]
        return any(str(name).lower() == "stoptraining" for name in names)

    def number(self, name: str, default: float) -> float:
        return float(self.parameters.get(name, default))


class Finding(NamedTuple):
    status: str
    details: str


def parse(document: Mapping[str, Any]) -> Rule:
    parameters = {str(key): str(value) for key, value in (document.get("parameters") or {}).items()}
    return Rule(str(document["name"]), str(document.get("invoked") or ""), parameters)


class DebugRules:
    """The rules of one host; lines come from one thread."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._values: dict[str, list[float]] = {}
        self._not_finite: dict[str, str] = {}
        self._found: dict[str, Finding] = {}

    def feed(self, line: bytes, points: Sequence[Datapoint]) -> Rule | None:
        """Take a line and its metrics; returns a rule that has just found an issue and wants training stopped."""
        if not self._rules:
            return None
        for point in points:
            values = self._values.setdefault(point.name, [])
            values.append(point.value)
            del values[:-VALUES_MAX]
        words = _words(line)
        self._not_finite.update(words)
        if not points and not words:
            return None
        fired = [rule for rule in self._rules if self._fires(rule)]
        return next((rule for rule in fired if rule.stops_training), None)

    def _fires(self, rule: Rule) -> bool:
        if rule.name in self._found:
            return False  # it has fired before; an issue stays an issue
        finding = evaluate(rule, self._values, self._not_finite)
        if finding.status != ISSUES:
            return False
        self._found[rule.name] = finding
        return True

    def told(self) -> dict[str, dict[str, str]]:
        """Status and details by rule name, at the end of the job."""
        told: dict[str, dict[str, str]] = {}
        for rule in self._rules:
            found = self._found.get(rule.name)
            found = found or evaluate(rule, self._values, self._not_finite)
            details = found.details[:DETAILS_CHARACTERS_MAX]
            told[rule.name] = {"status": found.status, "details": details}
        return told


def _words(line: bytes) -> dict[str, str]:
    """What a line calls nan or infinite."""
    if len(line) > _LINE_BYTES_MAX or not (b"nan" in line.lower() or b"inf" in line.lower()):
        return {}
    return {match[1]: match[2] for match in _NOT_FINITE.finditer(line.decode("utf-8", "replace"))}


def evaluate(rule: Rule, values: Series, not_finite: Mapping[str, str]) -> Finding:
    """What a rule says of the values so far. Pure."""
    check = _CHECKS.get(rule.invoked.lower().replace("_", ""))
    if check is None:
        known = ", ".join(sorted(_NAMES))
        return Finding(
            ERROR,
            f"Rule {rule.invoked or '(none given)'} cannot be evaluated from logged metrics; those "
            f"that can are {known}. Save and look at the tensors yourself, or take the rule out.",
        )
    if rule.invoked.lower().replace("_", "") == "explodingtensor":
        return _exploding(rule, not_finite)
    try:
        chosen = _chosen(rule, values)
        if not chosen:
            return Finding(
                ERROR,
                "No logged metric belongs to this rule: give AlgorithmSpecification."
                "MetricDefinitions for the loss, or the rule's tensor_regex.",
            )
        issue = check(rule, chosen)
    except (ValueError, re.error) as problem:
        return Finding(ERROR, f"The rule's parameters cannot be used: {problem}")
    return Finding(ISSUES, issue) if issue else Finding(NO_ISSUES, "")


def _chosen(rule: Rule, values: Series) -> dict[str, Sequence[float]]:
    wanted = rule.parameters.get("tensor_regex")
    pattern = re.compile(wanted) if wanted else _LOSS
    every = rule.invoked.lower().replace("_", "") in ("unchangedtensor", "allzero")
    return {
        name: one for name, one in values.items() if pattern.search(name) or (every and not wanted)
    }


def _exploding(rule: Rule, not_finite: Mapping[str, str]) -> Finding:
    only_nan = rule.parameters.get("only_nan", "").lower() == "true"
    wanted = re.compile(rule.parameters.get("tensor_regex") or "")
    for name, value in not_finite.items():
        if wanted.search(name) and ("nan" in value.lower() or not only_nan):
            return Finding(ISSUES, f"{name} became {value}")
    return Finding(NO_ISSUES, "")


def _loss_not_decreasing(rule: Rule, values: Series) -> str:
    steps = max(1, int(rule.number("num_steps", 10)))
    least = rule.number("diff_percent", 0.1)
    for name, series in values.items():
        if len(series) <= steps:
            continue
        before, now = series[-1 - steps], series[-1]
        fallen = 100.0 * (before - now) / abs(before) if before else (0.0 if now >= 0 else 100.0)
        if fallen < least:
            return (
                f"{name} went from {before:g} to {now:g} in {steps} steps, which is a decrease of "
                f"{fallen:.3g} %; at least {least:g} % is asked for"
            )
    return ""


def _pairs(values: Series) -> list[tuple[str, str]]:
    """Metrics of training with those of validation that bear the same name otherwise."""
    validation = {_bare(name): name for name in values if _VALIDATION.search(name)}
    training = {_bare(name): name for name in values if not _VALIDATION.search(name)}
    return [(training[bare], validation[bare]) for bare in training if bare in validation]


def _bare(name: str) -> str:
    return re.sub(r"training|train|validation|valid|eval|val|test|[^a-z0-9]", "", name.lower())


def _overfit(rule: Rule, values: Series) -> str:
    patience = max(1, int(rule.number("patience", 1)))
    most = rule.number("ratio_threshold", 0.1)
    first = int(rule.number("start_step", 0))
    pairs = _pairs(values)
    if not pairs:
        raise ValueError("it needs a metric of training and one of validation of the same name")
    for training, validation in pairs:
        both = list(zip(values[training], values[validation]))[first:]  # noqa: B905  (of 3.10)
        ratios = [(later - now) / abs(now) for now, later in both if now]
        newest = ratios[-patience:]
        if len(newest) == patience and min(newest) > most:
            return (
                f"{validation} exceeds {training} by {100 * newest[-1]:.3g} % of it at the last "
                f"{patience} steps; at most {100 * most:g} % is allowed"
            )
    return ""


def _overtraining(rule: Rule, values: Series) -> str:
    delta = rule.number("delta", 0.01)
    for name, series in values.items():
        validates = bool(_VALIDATION.search(name))
        word, default = ("patience_validation", 10) if validates else ("patience_train", 5)
        patience = max(1, int(rule.number(word, default)))
        if len(series) > patience and min(series[:-patience]) - min(series[-patience:]) < delta:
            return f"{name} did not improve by {delta:g} in its last {patience} values"
    return ""


def _unchanged(rule: Rule, values: Series) -> str:
    steps = max(2, int(rule.number("num_steps", 3)))
    share, least = rule.number("rtol", 1e-5), rule.number("atol", 1e-8)
    for name, series in values.items():
        newest = series[-steps:]
        bound = least + share * abs(newest[0])
        if len(newest) == steps and all(abs(one - newest[0]) <= bound for one in newest):
            return f"{name} stayed at {newest[0]:g} for {steps} steps"
    return ""


def _all_zero(rule: Rule, values: Series) -> str:
    for name, series in values.items():
        if not any(series):
            return f"all {len(series)} values of {name} are zero"
    return ""


def _nothing(_rule: Rule, _values: Series) -> str:
    return ""


_NAMES = (
    "AllZero",
    "ExplodingTensor",
    "LossNotDecreasing",
    "Overfit",
    "Overtraining",
    "UnchangedTensor",
)
_CHECKS: Mapping[str, Callable[[Rule, Series], str]] = {
    "lossnotdecreasing": _loss_not_decreasing,
    "overfit": _overfit,
    "overtraining": _overtraining,
    "unchangedtensor": _unchanged,
    "allzero": _all_zero,
    "explodingtensor": _nothing,  # judged by words, see `_exploding`
}
