"""What happened to alarms: configuration, states and actions, newest first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import select

from clary.companions.cloudwatch_errors import invalid_token
from clary.engine.call import Call, operation
from clary.store.rows import Event, Row
from clary.store.tables import events

KIND = "cloudwatch:Alarm"
PAGE_DEFAULT = 50
# Event types of the store are shared by all kinds, so these carry a prefix.
PREFIX = "alarm:"
ITEM_TYPES = ("ConfigurationUpdate", "StateUpdate", "Action")


def happened(item_type: str, summary: str, data: dict[str, Any], time: float) -> Event:
    return Event(f"{PREFIX}{item_type}", {"summary": summary, "data": data}, time)


def state_update(row: Row, old: dict[str, Any], new: dict[str, Any], time: float) -> Event:
    data = {"version": "1.0", "oldState": old, "newState": new}
    summary = f"Alarm updated from {old['stateValue']} to {new['stateValue']}"
    return happened("StateUpdate", summary, data, time)


@operation("DescribeAlarmHistory", service="cloudwatch")
def describe_alarm_history(call: Call) -> dict[str, Any]:
    """The history of an alarm outlives the alarm."""
    limit = call.input.get("MaxRecords") or PAGE_DEFAULT
    types = call.input.get("AlarmTypes") or ["MetricAlarm"]
    found = _events(call, limit + 1) if "MetricAlarm" in types else []
    items = [_item(one) for one in found[:limit]]
    answer: dict[str, Any] = {"AlarmHistoryItems": items}
    if len(found) > limit:
        answer["NextToken"] = str(found[limit - 1].id)
    return answer


def _events(call: Call, limit: int) -> list[Any]:
    prefix = f"arn:aws:cloudwatch:{call.region}:{call.account}:alarm:"
    wanted = call.input.get("HistoryItemType")
    types = [f"{PREFIX}{one}" for one in ITEM_TYPES if wanted in (None, one)]
    statement = select(events).where(events.c.kind == KIND, events.c.type.in_(types))
    name = call.input.get("AlarmName")
    if name:
        statement = statement.where(events.c.arn == prefix + name)
    else:
        statement = statement.where(events.c.arn.startswith(prefix, autoescape=True))
    if call.input.get("StartDate"):
        statement = statement.where(events.c.time >= call.input["StartDate"].timestamp())
    if call.input.get("EndDate"):
        statement = statement.where(events.c.time <= call.input["EndDate"].timestamp())
    ascending = call.input.get("ScanBy") == "TimestampAscending"
    token = call.input.get("NextToken")
    if token:
        if not token.isascii() or not token.isdigit() or len(token) > 18:
            raise invalid_token()
        last = int(token)
        statement = statement.where(events.c.id > last if ascending else events.c.id < last)
    order = events.c.id if ascending else events.c.id.desc()
    with call.parts.store.read() as connection:
        return list(connection.execute(statement.order_by(order).limit(limit)).all())


def _item(found: Any) -> dict[str, Any]:
    detail = orjson.loads(found.detail)
    return {
        "AlarmName": found.arn.split(":alarm:", 1)[1],
        "AlarmType": "MetricAlarm",
        "Timestamp": datetime.fromtimestamp(found.time, UTC),
        "HistoryItemType": found.type.removeprefix(PREFIX),
        "HistorySummary": detail["summary"],
        "HistoryData": orjson.dumps(detail["data"]).decode(),
    }
