"""CloudWatch metrics: putting data, and reading statistics of it."""

from __future__ import annotations

import math
from typing import Any

from clary.companions.cloudwatch_errors import (
    invalid_combination,
    invalid_value,
    missing_parameter,
)
from clary.companions.cloudwatch_queries import metric_of, results_page
from clary.companions.cloudwatch_series import (
    Statistic,
    period_is_valid,
    rounded_start,
    statistic_of,
    values_of,
)
from clary.engine.call import Call, operation
from clary.store import metric_data
from clary.store.metric_data import Datum, Metric, MetricQuery
from clary.store.metric_samples import merged

DATUMS_MAX = 1_000
DIMENSIONS_MAX = 30
VALUES_MAX = 150
MAGNITUDE_MAX = 2.0**360
AGE_SECONDS_MAX = 14 * 24 * 3600
FUTURE_SECONDS_MAX = 2 * 3600
DATAPOINTS_MAX = 1_440
LIST_PAGE = 500
LISTED_SECONDS = 14 * 24 * 3600  # ListMetrics leaves out what had no data for two weeks
RECENTLY_ACTIVE_SECONDS = 3 * 3600


@operation("PutMetricData", service="cloudwatch")
def put_metric_data(call: Call) -> None:
    namespace = call.input["Namespace"]
    if namespace.startswith("AWS/") and call.principal.kind != "service":
        raise invalid_value("The value AWS/ for parameter Namespace is invalid.")
    entries = [("MetricData", entry) for entry in call.input.get("MetricData") or []]
    for group in call.input.get("EntityMetricData") or []:
        entries += [("EntityMetricData", entry) for entry in group.get("MetricData") or []]
    if not entries:
        raise missing_parameter("The parameter MetricData is required.")
    if len(entries) > DATUMS_MAX:
        raise invalid_value(
            f"The collection MetricData must not have a size greater than {DATUMS_MAX}."
        )
    data = [
        _datum(call, namespace, f"{member}.member.{index}", entry)
        for index, (member, entry) in enumerate(entries, 1)
    ]
    metric_data.put(call.parts.telemetry, data, call.time)


@operation("ListMetrics", service="cloudwatch")
def list_metrics(call: Call) -> dict[str, Any]:
    token = call.input.get("NextToken") or "0"
    if not token.isascii() or not token.isdigit() or len(token) > 18:
        raise invalid_value("Invalid nextToken")
    active = call.input.get("RecentlyActive")
    query = MetricQuery(
        call.account,
        call.region,
        call.input.get("Namespace") or "",
        call.input.get("MetricName") or "",
        tuple((one["Name"], one.get("Value")) for one in call.input.get("Dimensions") or []),
        seen_since=call.time - (RECENTLY_ACTIVE_SECONDS if active else LISTED_SECONDS),
        after=int(token),
        limit=LIST_PAGE,
    )
    found, after = metric_data.list_metrics(call.parts.telemetry, query)
    answer: dict[str, Any] = {"Metrics": [_described(metric) for metric in found]}
    if after is not None:
        answer["NextToken"] = str(after)
    return answer


@operation("GetMetricStatistics", service="cloudwatch")
def get_metric_statistics(call: Call) -> dict[str, Any]:
    """Periods begin at StartTime, rounded down; data of different units make different datapoints."""
    period = call.input["Period"]
    start, end = call.input["StartTime"].timestamp(), call.input["EndTime"].timestamp()
    plain = call.input.get("Statistics") or []
    extended = call.input.get("ExtendedStatistics") or []
    _check_request(period, start, end, plain, extended)
    start = rounded_start(start, period, call.time)
    metric = metric_data.find(call.parts.telemetry, metric_of(call, call.input))
    unit = call.input.get("Unit")
    datapoints: dict[tuple[int, str], dict[str, Any]] = {}
    for name in (*plain, *extended):
        found = values_of(
            call.parts.telemetry,
            metric,
            _statistic(name),
            start,
            math.ceil(end),
            period=period,
            origin=start,
        )
        for (when, own), value in found.items():
            if unit in (None, own):
                point = datapoints.setdefault((when, own), {"Timestamp": when, "Unit": own})
                into = point if name in plain else point.setdefault("ExtendedStatistics", {})
                into[name] = value
    ordered = [datapoints[key] for key in sorted(datapoints)]
    return {"Label": call.input["MetricName"], "Datapoints": ordered}


@operation("GetMetricData", service="cloudwatch")
def get_metric_data(call: Call) -> dict[str, Any]:
    return results_page(call)


def _datum(call: Call, namespace: str, where: str, entry: dict[str, Any]) -> Datum:
    dimensions = entry.get("Dimensions") or []
    if len(dimensions) > DIMENSIONS_MAX:
        raise invalid_value(
            f"The collection {where}.Dimensions must not have a size greater than {DIMENSIONS_MAX}."
        )
    for one in dimensions:
        if not one["Name"].strip() or not one["Value"].strip() or one["Name"].startswith(":"):
            raise invalid_value(f"The value of a dimension of {where} is invalid.")
    moment = entry.get("Timestamp")
    when = call.time if moment is None else moment.timestamp()
    if not -AGE_SECONDS_MAX <= when - call.time <= FUTURE_SECONDS_MAX:
        raise invalid_value(
            f"The value {moment} for parameter {where}.Timestamp is invalid: it must lie within "
            "the past two weeks and the next two hours."
        )
    resolution = entry.get("StorageResolution") or 60
    if resolution not in (1, 60):
        raise invalid_value(
            f"The value {resolution} for parameter {where}.StorageResolution is invalid."
        )
    metric = metric_of(call, {**entry, "Namespace": namespace})
    unit = entry.get("Unit") or "None"
    count, total, minimum, maximum, samples = _measured(where, entry)
    return Datum(metric, when, unit, count, total, minimum, maximum, samples, resolution)


def _measured(where: str, entry: dict[str, Any]) -> tuple[float, float, float, float, Any]:
    """Sample count, sum, minimum, maximum and the values themselves, from any of the three forms."""
    forms = [name for name in ("Value", "StatisticValues", "Values") if entry.get(name) is not None]
    if not forms:
        raise missing_parameter(f"At least one of the parameters must be specified: {where}.Value.")
    if len(forms) > 1:
        raise invalid_combination(
            f"The parameters {where}.{forms[0]} and {where}.{forms[1]} are mutually exclusive and "
            "you have specified both."
        )
    if forms == ["Value"]:
        value = _finite(f"{where}.Value", entry["Value"])
        return 1.0, value, value, value, ()
    if forms == ["StatisticValues"]:
        given = entry["StatisticValues"]
        names = ("SampleCount", "Sum", "Minimum", "Maximum")
        count, total, low, high = (
            _finite(f"{where}.StatisticValues.{name}", given[name]) for name in names
        )
        if count <= 0 or low > high:
            raise invalid_value(f"The value of the parameter {where}.StatisticValues is invalid.")
        return count, total, low, high, ()
    values, counts = entry["Values"], entry.get("Counts") or [1.0] * len(entry["Values"])
    if not values or len(values) > VALUES_MAX or len(values) != len(counts):
        raise invalid_value(
            f"The parameters {where}.Values and {where}.Counts must be of equal size, "
            f"from 1 to {VALUES_MAX}."
        )
    pairs = [
        (_finite(f"{where}.Values", value), _finite(f"{where}.Counts", weight))
        for value, weight in zip(values, counts, strict=True)
    ]
    if any(weight <= 0 for _, weight in pairs):
        raise invalid_value(f"The parameter {where}.Counts must hold positive numbers.")
    total = sum(value * weight for value, weight in pairs)
    return sum(counts), total, min(values), max(values), merged([tuple(pairs)])


def _finite(where: str, value: float) -> float:
    if not math.isfinite(value) or abs(value) > MAGNITUDE_MAX:
        raise invalid_value(f"The value {value} for parameter {where} is invalid.")
    return float(value)


def _check_request(
    period: int, start: float, end: float, plain: list[str], extended: list[str]
) -> None:
    if not period_is_valid(period):
        raise invalid_value(
            f"The value {period} for parameter Period is invalid: it must be 1, 5, 10, 20, 30 or a "
            "multiple of 60."
        )
    if start >= end:
        raise invalid_combination(
            "The parameter StartTime must be less than the parameter EndTime."
        )
    if not plain and not extended:
        raise invalid_combination("Must specify either Statistics or ExtendedStatistics")
    if plain and extended:
        raise invalid_combination("Cannot specify both Statistics and ExtendedStatistics")
    asked = math.ceil((end - start) / period)
    if asked > DATAPOINTS_MAX:
        raise invalid_combination(
            f"You have requested up to {asked:,} datapoints, which exceeds the limit of "
            f"{DATAPOINTS_MAX:,}. You may reduce the datapoints requested by increasing Period, or "
            "decreasing the time range."
        )


def _statistic(name: str) -> Statistic:
    found = statistic_of(name)
    if found is None:
        raise invalid_value(f"The value {name} for parameter ExtendedStatistics is invalid.")
    return found


def _described(metric: Metric) -> dict[str, Any]:
    return {
        "Namespace": metric.namespace,
        "MetricName": metric.name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
    }
