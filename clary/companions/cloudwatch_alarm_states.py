"""The state of an alarm, decided from its datapoints alone."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

OK = "OK"
ALARM = "ALARM"
INSUFFICIENT_DATA = "INSUFFICIENT_DATA"

# An alarm looks back a little further than its evaluation periods, so that late data count.
EXTRA_PERIODS = 2
SETTLE_SECONDS = 10  # after the end of a period; what endpoints count arrives every 5 seconds
SETTLE_SECONDS_SHORT = 2  # of periods below a minute

_BREACHES: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}
COMPARISON_OPERATORS = frozenset(_BREACHES)


@dataclass(frozen=True, slots=True)
class State:
    value: str
    reason: str
    data: dict[str, Any] = field(default_factory=dict[str, Any])


def evaluation_range(alarm: Mapping[str, Any], now: float) -> tuple[int, int]:
    """The time range whose datapoints decide at `now`: whole periods that have had time to settle."""
    period = period_of(alarm)
    settled = int(now) - (SETTLE_SECONDS if period >= 60 else SETTLE_SECONDS_SHORT)
    end = settled - settled % period
    return end - period * (alarm["EvaluationPeriods"] + EXTRA_PERIODS), end


def period_of(alarm: Mapping[str, Any]) -> int:
    """The period of the metric, or the longest one of the alarm's queries."""
    if alarm.get("Period"):
        return alarm["Period"]
    queries = alarm.get("Metrics") or []
    periods = [
        query.get("Period") or (query.get("MetricStat") or {}).get("Period") or 60
        for query in queries
    ]
    return max(periods, default=60)


def evaluate(
    alarm: Mapping[str, Any], datapoints: Sequence[tuple[float, float]], now: float
) -> State:
    """The state that CloudWatch documents for M out of N datapoints and TreatMissingData.

    `alarm` has the members of PutMetricAlarm and `StateValue`, the state until now; `datapoints` are
    (start of the period, value) in any order.
    """
    wanted = alarm["EvaluationPeriods"]
    needed = alarm.get("DatapointsToAlarm") or wanted
    start, end = evaluation_range(alarm, now)
    period = period_of(alarm)
    known = {int(when) - int(when) % period: value for when, value in datapoints}
    slots = [known.get(end - period * number) for number in range(1, (end - start) // period + 1)]
    present = [value for value in slots if value is not None][:wanted]
    breach, _ = _BREACHES[alarm["ComparisonOperator"]]
    threshold = alarm["Threshold"]
    breaching = sum(1 for value in present if breach(value, threshold))
    treatment = alarm.get("TreatMissingData") or "missing"
    current = alarm.get("StateValue") or INSUFFICIENT_DATA
    if not present:
        value = {"breaching": ALARM, "notBreaching": OK, "ignore": current}.get(
            treatment, INSUFFICIENT_DATA
        )
        return State(value, _reason_without(value, wanted), _data(alarm, [], now))
    absent = wanted - len(present) if treatment == "breaching" else 0
    if breaching + absent >= needed:
        value = ALARM
    elif breaching < len(present) or len(present) == wanted or treatment == "notBreaching":
        value = OK
    else:
        # Too few datapoints, and all of them breach: CloudWatch alarms once the oldest is old enough.
        oldest = max(number for number, one in enumerate(slots, 1) if one is not None)
        value = ALARM if treatment == "missing" and oldest >= needed else current
    shown = [(when, known[when]) for when in sorted(known) if start <= when < end][-wanted:]
    return State(value, _reason(alarm, value, shown, breaching, needed), _data(alarm, shown, now))


def _reason(
    alarm: Mapping[str, Any],
    value: str,
    shown: list[tuple[int, float]],
    breaching: int,
    needed: int,
) -> str:
    breach, words = _BREACHES[alarm["ComparisonOperator"]]
    threshold = alarm["Threshold"]
    if value == ALARM and breaching:
        listed = _listed([one for one in shown if breach(one[1], threshold)])
        verb = "was" if breaching == 1 else "were"
        return (
            f"Threshold Crossed: {breaching} out of the last {alarm['EvaluationPeriods']} datapoints "
            f"[{listed}] {verb} {words} the threshold ({float(threshold)}) (minimum {needed} "
            f"datapoint{'' if needed == 1 else 's'} for OK -> ALARM transition)."
        )
    listed = _listed([one for one in shown if not breach(one[1], threshold)] or shown)
    count = len(shown)
    verb = "datapoint" if count == 1 else "datapoints"
    state = "was" if count == 1 else "were"
    return (
        f"Threshold Crossed: {count} {verb} [{listed}] {state} not {words} the threshold "
        f"({float(threshold)})."
    )


def _reason_without(value: str, wanted: int) -> str:
    one = wanted == 1
    unknown = f"{wanted} datapoint{'' if one else 's'} {'was' if one else 'were'} unknown"
    if value == INSUFFICIENT_DATA:
        return f"Insufficient Data: {unknown}."
    treated = "breaching" if value == ALARM else "not breaching"
    periods = f"{wanted} period{'' if one else 's'}"
    return (
        f"Threshold Crossed: no datapoints were received for {periods} and {unknown}, "
        f"treated as {treated}."
    )


def _listed(shown: list[tuple[int, float]]) -> str:
    newest_first = sorted(shown, reverse=True)
    return ", ".join(
        f"{float(value)} ({datetime.fromtimestamp(when, UTC):%d/%m/%y %H:%M:%S})"
        for when, value in newest_first
    )


def _data(alarm: Mapping[str, Any], shown: list[tuple[int, float]], now: float) -> dict[str, Any]:
    data: dict[str, Any] = {
        "version": "1.0",
        "queryDate": f"{datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%S.000+0000}",
        "period": period_of(alarm),
        "recentDatapoints": [value for _, value in shown],
        "threshold": float(alarm["Threshold"]),
    }
    statistic = alarm.get("Statistic") or alarm.get("ExtendedStatistic")
    if statistic:
        data["statistic"] = statistic
    if shown:
        data["startDate"] = f"{datetime.fromtimestamp(shown[0][0], UTC):%Y-%m-%dT%H:%M:%S.000+0000}"
    return data
