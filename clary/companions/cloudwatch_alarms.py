"""CloudWatch alarms: their configuration, and the states that they evaluate to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from clary.companions.cloudwatch_alarm_actions import act
from clary.companions.cloudwatch_alarm_history import KIND, happened, state_update
from clary.companions.cloudwatch_alarm_states import (
    COMPARISON_OPERATORS,
    INSUFFICIENT_DATA,
    State,
    evaluate,
    evaluation_range,
    period_of,
)
from clary.companions.cloudwatch_errors import (
    invalid_combination,
    invalid_token,
    missing_parameter,
    validation_error,
)
from clary.companions.cloudwatch_queries import Queries, check_queries, metric_named
from clary.companions.cloudwatch_series import period_is_valid, series_of, statistic_of
from clary.engine.call import Call, Parts, operation
from clary.model.errors import ApiError
from clary.store.rows import Row, RowChanged, RowExists

PAGE_DEFAULT = 50
TAGS_MAX = 50
ATTEMPTS_MAX = 8
DAY = 24 * 3600
TREATMENTS = ("breaching", "notBreaching", "ignore", "missing")
INTERVAL_SECONDS = (
    60.0  # CloudWatch evaluates once a minute, high-resolution alarms every 10 seconds
)
INTERVAL_SECONDS_SHORT = 10.0

_CONFIGURATION = (
    "AlarmDescription", "ActionsEnabled", "OKActions", "AlarmActions", "InsufficientDataActions",
    "MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Dimensions", "Period", "Unit",
    "EvaluationPeriods", "DatapointsToAlarm", "Threshold", "ComparisonOperator",
    "TreatMissingData", "EvaluateLowSampleCountPercentile", "Metrics",
)  # fmt: skip
_ACTION_MEMBERS = ("OKActions", "AlarmActions", "InsufficientDataActions")


def evaluate_all(parts: Parts, now: float) -> int:
    """Evaluate every alarm that is due, act on what changed; return how many changed."""
    changed = 0
    for region in parts.store.rows.regions(KIND):
        for row in parts.store.rows.every(KIND, account=parts.settings.account, region=region):
            before = row.status
            changed += _evaluated(parts, row, now).status != before
    return changed


@operation("PutMetricAlarm", service="cloudwatch")
def put_metric_alarm(call: Call) -> None:
    _check(call.input)
    name = call.input["AlarmName"]
    document = {
        member: call.input[member]
        for member in _CONFIGURATION
        if call.input.get(member) is not None
    }
    document.setdefault("ActionsEnabled", True)
    arn = f"arn:aws:cloudwatch:{call.region}:{call.account}:alarm:{name}"
    state = {
        "Reason": "Unchecked: Initial alarm creation",
        "Data": {},
        "Updated": call.time,
        "Transitioned": call.time,
        "Configured": call.time,
        "Evaluated": 0.0,
    }
    row = Row(
        KIND,
        name,
        arn,
        call.account,
        call.region,
        status=INSUFFICIENT_DATA,
        document=document,
        state=state,
        tags=call.input.get("Tags") or [],
        created=call.time,
    )
    made = happened("ConfigurationUpdate", f'Alarm "{name}" created', {"type": "Create"}, call.time)
    try:
        call.parts.store.rows.insert(row, made)
    except RowExists:
        _change(call, name, _overwriting(document, call.time), f'Alarm "{name}" updated')


@operation("DescribeAlarms", service="cloudwatch")
def describe_alarms(call: Call) -> dict[str, Any]:
    """States are brought up to date first, so that an alarm is as fresh as whoever looks at it."""
    names, prefix = call.input.get("AlarmNames") or [], call.input.get("AlarmNamePrefix") or ""
    if names and prefix:
        raise invalid_combination("AlarmNames and AlarmNamePrefix are mutually exclusive.")
    types = call.input.get("AlarmTypes") or ["MetricAlarm"]
    family = call.input.get("ChildrenOfAlarmName") or call.input.get("ParentsOfAlarmName")
    answer: dict[str, Any] = {"MetricAlarms": [], "CompositeAlarms": []}
    if "MetricAlarm" not in types or family:
        return answer
    rows = [
        _evaluated(call.parts, row, call.time)
        for row in _every(call)
        if (not names or row.name in names) and row.name.startswith(prefix)
    ]
    state, action = call.input.get("StateValue"), call.input.get("ActionPrefix") or ""
    rows = [row for row in rows if state in (None, row.status) and _has_action(row, action)]
    page, token = _page(call, rows)
    answer["MetricAlarms"] = [_described(row) for row in page]
    return answer | token


@operation("DescribeAlarmsForMetric", service="cloudwatch")
def describe_alarms_for_metric(call: Call) -> dict[str, Any]:
    wanted = metric_named(call.account, call.region, call.input)
    filters = ("Statistic", "ExtendedStatistic", "Period", "Unit")

    def matches(row: Row) -> bool:
        if metric_named(call.account, call.region, row.document) != wanted:
            return False
        return all(call.input.get(member) in (None, row.document.get(member)) for member in filters)

    rows = [_evaluated(call.parts, row, call.time) for row in _every(call) if matches(row)]
    return {"MetricAlarms": [_described(row) for row in rows]}


@operation("DeleteAlarms", service="cloudwatch")
def delete_alarms(call: Call) -> None:
    rows = [_find(call, name) for name in dict.fromkeys(call.input["AlarmNames"])]
    for row in rows:
        _delete(call, row)


@operation("SetAlarmState", service="cloudwatch")
def set_alarm_state(call: Call) -> None:
    """The state holds until the alarm's next evaluation, as SetAlarmState documents."""
    text = call.input.get("StateReasonData") or ""
    try:
        data = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError as problem:
        raise ApiError("StateReasonData is not valid JSON.", code="InvalidFormat") from problem
    state = State(call.input["StateValue"], call.input["StateReason"], data)
    row = _find(call, call.input["AlarmName"])
    for _ in range(ATTEMPTS_MAX):
        try:
            _become(call.parts, row, state, call.time)
            return
        except RowChanged:
            row = _find(call, row.name)
    raise _conflict()


@operation("EnableAlarmActions", service="cloudwatch")
def enable_alarm_actions(call: Call) -> None:
    _set_actions(call, enabled=True)


@operation("DisableAlarmActions", service="cloudwatch")
def disable_alarm_actions(call: Call) -> None:
    _set_actions(call, enabled=False)


@operation("TagResource", service="cloudwatch")
def tag_resource(call: Call) -> dict[str, Any]:
    given = {tag["Key"]: tag["Value"] for tag in call.input["Tags"]}

    def edit(row: Row) -> None:
        tags = {tag["Key"]: tag["Value"] for tag in row.tags} | given
        if len(tags) > TAGS_MAX:
            raise validation_error(f"An alarm can have at most {TAGS_MAX} tags.")
        row.tags = [{"Key": key, "Value": value} for key, value in tags.items()]

    _change(call, _tagged(call).name, edit)
    return {}


@operation("UntagResource", service="cloudwatch")
def untag_resource(call: Call) -> dict[str, Any]:
    keys = call.input["TagKeys"]

    def edit(row: Row) -> None:
        row.tags = [tag for tag in row.tags if tag["Key"] not in keys]

    _change(call, _tagged(call).name, edit)
    return {}


@operation("ListTagsForResource", service="cloudwatch")
def list_tags_for_resource(call: Call) -> dict[str, Any]:
    return {"Tags": _tagged(call).tags}


def _check(alarm: dict[str, Any]) -> None:
    """Raise for a configuration that could never be evaluated."""
    if alarm.get("EvaluationCriteria") or alarm.get("ThresholdMetricId"):
        raise validation_error("Alarms on PromQL queries and anomaly detection are not supported.")
    for member in ("EvaluationPeriods", "Threshold", "ComparisonOperator"):
        if alarm.get(member) is None:
            raise missing_parameter(f"The parameter {member} is required.")
    if alarm["ComparisonOperator"] not in COMPARISON_OPERATORS:
        raise validation_error(
            f"ComparisonOperator {alarm['ComparisonOperator']} needs anomaly detection, which is not "
            "supported."
        )
    periods, needed = alarm["EvaluationPeriods"], alarm.get("DatapointsToAlarm")
    if periods < 1 or (needed is not None and not 1 <= needed <= periods):
        raise validation_error(
            "DatapointsToAlarm must be at least 1 and not greater than EvaluationPeriods."
        )
    if (alarm.get("TreatMissingData") or "missing") not in TREATMENTS:
        raise validation_error(
            f"Value '{alarm['TreatMissingData']}' at 'treatMissingData' failed to satisfy "
            f"constraint: Member must satisfy enum value set: [{', '.join(TREATMENTS)}]"
        )
    _check_source(alarm)
    longest = period_of(alarm)
    if periods * longest > (7 * DAY if longest >= 3600 else DAY):
        raise validation_error(
            "Metrics cannot be checked across more than a day (EvaluationPeriods * Period must be "
            "<= 86400), or 7 days with a Period of at least an hour."
        )


def _check_source(alarm: dict[str, Any]) -> None:
    queries, name = alarm.get("Metrics"), alarm.get("MetricName")
    if bool(queries) == bool(name):
        raise invalid_combination("Exactly one of MetricName and Metrics must be specified.")
    if queries:
        check_queries(queries)
        if sum(1 for query in queries if query.get("ReturnData") is not False) != 1:
            raise validation_error("Exactly one element of Metrics must return data.")
        return
    if not alarm.get("Namespace") or not alarm.get("Period"):
        raise missing_parameter("The parameters Namespace and Period are required.")
    if not period_is_valid(alarm["Period"]):
        raise validation_error("Period must be 10, 20, 30 or a multiple of 60")
    statistic, extended = alarm.get("Statistic"), alarm.get("ExtendedStatistic")
    if bool(statistic) == bool(extended):
        raise invalid_combination("Exactly one of Statistic and ExtendedStatistic must be given.")
    if statistic_of(statistic or extended or "") is None:
        raise validation_error(f"The value {extended} for ExtendedStatistic is not supported.")


def _overwriting(document: dict[str, Any], now: float) -> Callable[[Row], None]:
    """An update replaces the configuration and leaves the state as it is."""

    def edit(row: Row) -> None:
        row.document = document
        row.state = {**row.state, "Configured": now, "Evaluated": 0.0}

    return edit


def _evaluated(parts: Parts, row: Row, now: float) -> Row:
    """The alarm with the state that its datapoints give it, if it is time to look again."""
    interval = INTERVAL_SECONDS if period_of(row.document) >= 60 else INTERVAL_SECONDS_SHORT
    if now - row.state["Evaluated"] < interval:
        return row
    alarm = {**row.document, "StateValue": row.status}
    state = evaluate(alarm, _datapoints(parts, row, now), now)
    try:
        return _become(parts, row, state, now)
    except RowChanged:
        # Somebody else has just evaluated or changed it; what he wrote is as good.
        fresh = parts.store.rows.get(KIND, row.name, account=row.account, region=row.region)
        return fresh or row


def _datapoints(parts: Parts, row: Row, now: float) -> list[tuple[float, float]]:
    alarm = row.document
    start, end = evaluation_range(alarm, now)
    if alarm.get("Metrics"):
        queries = alarm["Metrics"]
        result = next(query for query in queries if query.get("ReturnData") is not False)
        solved = Queries(
            parts.telemetry, row.account, row.region, queries, lambda period: start, end
        )
        try:
            return [*solved.series(result["Id"]).points.items()]
        except ApiError:
            return []  # an expression that cannot be worked out has no data
    statistic = statistic_of(alarm.get("Statistic") or alarm["ExtendedStatistic"])
    assert statistic is not None, "PutMetricAlarm lets no other pass"
    points = series_of(
        parts.telemetry,
        metric_named(row.account, row.region, alarm),
        statistic,
        start,
        end,
        period=alarm["Period"],
        unit=alarm.get("Unit"),
    )
    return [*points.items()]


def _become(parts: Parts, row: Row, state: State, now: float) -> Row:
    """Write what an evaluation found; a change of state is recorded and acted on. Raise RowChanged."""
    old = {"stateValue": row.status, "stateReason": row.state["Reason"]}
    row.state = {**row.state, "Evaluated": now}
    if state.value == row.status:
        return parts.store.rows.update(row, touch=False)
    row.status = state.value
    row.state |= {
        "Reason": state.reason,
        "Data": state.data,
        "Updated": now,
        "Transitioned": now,
    }
    new = {
        "stateValue": state.value,
        "stateReason": state.reason,
        "stateReasonData": state.data,
    }
    parts.store.rows.update(row, state_update(row, old, new, now), touch=False)
    act(parts, row, old, now)
    return row


def _every(call: Call) -> list[Row]:
    return call.parts.store.rows.every(KIND, account=call.account, region=call.region)


def _has_action(row: Row, prefix: str) -> bool:
    if not prefix:
        return True
    actions = [arn for member in _ACTION_MEMBERS for arn in row.document.get(member) or []]
    return any(arn.startswith(prefix) for arn in actions)


def _page(call: Call, rows: list[Row]) -> tuple[list[Row], dict[str, str]]:
    """The token is the name of the last alarm of the page before."""
    token = call.input.get("NextToken")
    if token is not None:
        if not token.startswith("after:"):
            raise invalid_token()
        rows = [row for row in rows if row.name > token.removeprefix("after:")]
    limit = call.input.get("MaxRecords") or PAGE_DEFAULT
    more = {"NextToken": f"after:{rows[limit - 1].name}"} if len(rows) > limit else {}
    return rows[:limit], more


def _find(call: Call, name: str) -> Row:
    row = call.parts.store.rows.get(KIND, name, account=call.account, region=call.region)
    if row is None:
        raise ApiError(f"Alarm {name} does not exist.", code="ResourceNotFound", status=404)
    return row


def _tagged(call: Call) -> Row:
    arn = call.input["ResourceARN"]
    row = call.parts.store.rows.by_arn(arn)
    if row is None or row.kind != KIND:
        message = f"Unknown resource: {arn}"
        raise ApiError(message, code="ResourceNotFoundException", status=404)
    return row


def _change(call: Call, name: str, edit: Callable[[Row], None], summary: str = "") -> None:
    for _ in range(ATTEMPTS_MAX):
        row = _find(call, name)
        edit(row)
        record = happened("ConfigurationUpdate", summary, {"type": "Update"}, call.time)
        try:
            call.parts.store.rows.update(row, *([record] if summary else []))
            return
        except RowChanged:
            continue
    raise _conflict()


def _delete(call: Call, row: Row) -> None:
    record = happened(
        "ConfigurationUpdate", f'Alarm "{row.name}" deleted', {"type": "Delete"}, call.time
    )
    for _ in range(ATTEMPTS_MAX):
        try:
            return call.parts.store.rows.delete(row, record)
        except RowChanged:
            row = _find(call, row.name)
    raise _conflict()


def _conflict() -> ApiError:
    message = "More than one process tried to modify a resource at the same time."
    return ApiError(message, code="ConcurrentModificationException", status=429)


def _set_actions(call: Call, *, enabled: bool) -> None:
    word = "enabled" if enabled else "disabled"

    def edit(row: Row) -> None:
        row.document["ActionsEnabled"] = enabled

    known = {row.name for row in _every(call)}
    for name in dict.fromkeys(call.input["AlarmNames"]):
        # CloudWatch leaves names that it does not know aside here.
        if name in known:
            _change(call, name, edit, f'Alarm "{name}" actions {word}')


def _described(row: Row) -> dict[str, Any]:
    described: dict[str, Any] = {
        "OKActions": [],
        "AlarmActions": [],
        "InsufficientDataActions": [],
        "Dimensions": [],
        **row.document,
        "AlarmName": row.name,
        "AlarmArn": row.arn,
        "AlarmConfigurationUpdatedTimestamp": row.state["Configured"],
        "StateValue": row.status,
        "StateReason": row.state["Reason"],
        "StateUpdatedTimestamp": row.state["Updated"],
        "StateTransitionedTimestamp": row.state["Transitioned"],
    }
    if row.document.get("Metrics"):
        del described["Dimensions"]
    if row.state["Data"]:
        described["StateReasonData"] = orjson.dumps(row.state["Data"]).decode()
    return described
