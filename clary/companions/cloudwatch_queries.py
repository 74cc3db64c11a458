"""Metric data queries: what GetMetricData and alarms ask for, statistics and expressions alike."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clary.companions.cloudwatch_errors import invalid_token, validation_error
from clary.companions.cloudwatch_math import ExpressionError, Series, evaluate_expression
from clary.companions.cloudwatch_series import (
    period_is_valid,
    rounded_start,
    series_of,
    statistic_of,
)
from clary.engine.call import Call
from clary.store.database import Store
from clary.store.metric_data import Metric

QUERIES_MAX = 500
DATAPOINTS_MAX = 100_800
REFERENCES_DEPTH_MAX = 16

_ID = re.compile(r"[a-z][a-zA-Z0-9_]{0,254}")


def metric_of(call: Call, described: Mapping[str, Any]) -> Metric:
    return metric_named(call.account, call.region, described)


def metric_named(account: str, region: str, described: Mapping[str, Any]) -> Metric:
    """A metric by its Namespace, MetricName and Dimensions."""
    dimensions = {one["Name"]: one["Value"] for one in described.get("Dimensions") or []}
    return Metric(
        account,
        region,
        described.get("Namespace") or "",
        described.get("MetricName") or "",
        tuple(sorted(dimensions.items())),
    )


def results_page(call: Call) -> dict[str, Any]:
    """One page of GetMetricData: each series from the same place on, as many datapoints as fit."""
    queries = call.input["MetricDataQueries"]
    check_queries(queries)
    start, end = call.input["StartTime"].timestamp(), call.input["EndTime"].timestamp()
    if start >= end:
        raise validation_error("The parameter StartTime must be less than the parameter EndTime.")
    shown = [query for query in queries if query.get("ReturnData") is not False]
    if not shown:
        raise validation_error("At least one of the queries must return data.")
    at_most = call.input.get("MaxDatapoints") or DATAPOINTS_MAX
    if not 1 <= at_most <= DATAPOINTS_MAX:
        raise validation_error(f"MaxDatapoints must lie between 1 and {DATAPOINTS_MAX}.")
    token = call.input.get("NextToken") or "0"
    if not token.isascii() or not token.isdigit() or len(token) > 9:
        raise invalid_token()
    offset, count = int(token), max(1, at_most // len(shown))
    solved = Queries(
        call.parts.telemetry,
        call.account,
        call.region,
        queries,
        lambda period: rounded_start(start, period, call.time),
        math.ceil(end),
    )
    descending = call.input.get("ScanBy") != "TimestampAscending"
    results: list[dict[str, Any]] = []
    more = False
    for query in shown:
        points = sorted(solved.series(query["Id"]).points.items(), reverse=descending)
        page = points[offset : offset + count]
        partial = offset + count < len(points)
        more = more or partial
        results.append(_result(query, page, partial=partial))
    answer: dict[str, Any] = {"MetricDataResults": results, "Messages": []}
    if more:
        answer["NextToken"] = str(offset + count)
    return answer


def check_queries(queries: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValidationError for queries that no data could answer."""
    if len(queries) > QUERIES_MAX:
        raise validation_error(
            f"The collection MetricDataQueries must not have a size greater than {QUERIES_MAX}."
        )
    seen: set[str] = set()
    for query in queries:
        name = query["Id"]
        if not _ID.fullmatch(name):
            raise validation_error(
                f"The value {name} for parameter Id is not matching the expected pattern "
                "^[a-z][a-zA-Z0-9_]*$."
            )
        if name in seen:
            raise validation_error(f"The value {name} for parameter Id is not unique.")
        seen.add(name)
        stat, expression = query.get("MetricStat"), query.get("Expression")
        if (stat is None) == (not expression):
            raise validation_error(
                f"Exactly one of MetricStat and Expression must be specified in query {name}."
            )
        if stat is not None:
            _check_stat(name, stat)


class Queries:
    """The answers to one set of queries; each is worked out once, when it is asked for."""

    def __init__(
        self,
        telemetry: Store,
        account: str,
        region: str,
        queries: Sequence[Mapping[str, Any]],
        start: Callable[[int], int],
        end: int,
    ) -> None:
        self._telemetry = telemetry
        self._account = account
        self._region = region
        self._queries = {query["Id"]: query for query in queries}
        self._start = start  # of a period: it is rounded down by the period's length
        self._end = end
        self._solved: dict[str, Series] = {}
        self._open: list[str] = []

    def series(self, name: str) -> Series:
        solved = self._solved.get(name)
        if solved is None:
            solved = self._solved[name] = self._solve(name)
        return solved

    def _solve(self, name: str) -> Series:
        query = self._queries.get(name)
        if query is None:
            raise validation_error(f"The expression refers to {name}, which is no query's Id.")
        if name in self._open or len(self._open) == REFERENCES_DEPTH_MAX:
            raise validation_error(f"The expression of query {name} refers to itself, or too deep.")
        if query.get("MetricStat") is not None:
            return self._read(query["MetricStat"])
        self._open.append(name)
        try:
            return evaluate_expression(
                query["Expression"], self.series, self._metrics, self._range, query.get("Period")
            )
        except ExpressionError as problem:
            raise validation_error(
                f"Error in expression '{name}': {query['Expression']!r}: {problem}"
            ) from problem
        finally:
            self._open.pop()

    def _read(self, stat: Mapping[str, Any]) -> Series:
        period = stat["Period"]
        start, end = self._range(period)
        statistic = statistic_of(stat["Stat"])
        assert statistic is not None, "check_queries lets no other pass"
        points = series_of(
            self._telemetry,
            metric_named(self._account, self._region, stat["Metric"]),
            statistic,
            start,
            end,
            period=period,
            unit=stat.get("Unit"),
        )
        return Series(period, points)

    def _range(self, period: int) -> tuple[int, int]:
        start = self._start(period)
        return start - start % period, self._end

    def _metrics(self) -> list[str]:
        return [name for name, query in self._queries.items() if query.get("MetricStat")]


def _check_stat(name: str, stat: Mapping[str, Any]) -> None:
    metric = stat["Metric"]
    if not metric.get("Namespace") or not metric.get("MetricName"):
        raise validation_error(f"Query {name} must name a Namespace and a MetricName.")
    if not period_is_valid(stat["Period"]):
        raise validation_error(
            f"The value {stat['Period']} for parameter Period of query {name} is invalid: it must "
            "be 1, 5, 10, 20, 30 or a multiple of 60."
        )
    if statistic_of(stat["Stat"]) is None:
        raise validation_error(
            f"The value {stat['Stat']} for parameter Stat of query {name} is not supported."
        )


def _result(
    query: Mapping[str, Any], page: list[tuple[int, float]], *, partial: bool
) -> dict[str, Any]:
    stat = query.get("MetricStat")
    label = query.get("Label") or (stat["Metric"]["MetricName"] if stat else query["Id"])
    return {
        "Id": query["Id"],
        "Label": label,
        "Timestamps": [when for when, _ in page],
        "Values": [value for _, value in page],
        "StatusCode": "PartialData" if partial else "Complete",
    }
