"""Application Auto Scaling: scheduled actions, which move a target's bounds at given times."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from clary.companions.application_autoscaling_names import (
    SCHEDULED_ACTION,
    child,
    every,
    find_child,
    find_target,
    page,
    validation_error,
)
from clary.companions.schedule_expressions import BadSchedule, Schedule, parse_schedule
from clary.engine.call import Call, operation
from clary.model.errors import ApiError
from clary.store.rows import Row, RowChanged, RowExists

SERVICE = "application-autoscaling"
ACTIONS_MAX = 200
_MEMBERS = ("ScheduledActionName", "ServiceNamespace", "ResourceId", "ScalableDimension")


@operation("PutScheduledAction", service=SERVICE)
def put_scheduled_action(call: Call) -> dict[str, Any]:
    """Create an action, or change the members given of one."""
    target = find_target(call)
    name = call.input["ScheduledActionName"]
    known = child(call, SCHEDULED_ACTION, name)
    row = known or _new(call, target)
    document = dict(row.document) | {member: call.input[member] for member in _MEMBERS}
    for member in ("Schedule", "Timezone", "StartTime", "EndTime", "ScalableTargetAction"):
        if call.input.get(member) is not None:
            value = call.input[member]
            document[member] = value.timestamp() if isinstance(value, datetime) else value
    if "Schedule" not in document:
        raise validation_error("Schedule is required for a new scheduled action.")
    _check_bounds(document)
    row.document = document
    row.state = {"next": next_time(row, call.time)}
    try:
        if known is None:
            call.parts.store.rows.insert(row)
        else:
            call.parts.store.rows.update(row)
    except (RowChanged, RowExists) as problem:
        raise ApiError(
            f"The scheduled action {name} is being changed by another request. Please try again.",
            code="ConcurrentUpdateException",
            status=400,
        ) from problem
    return {}


def next_time(row: Row, now: float) -> float | None:
    """When an action is due after `now`, within its own start and end; raise ValidationException."""
    document = row.document
    schedule = schedule_of(document)
    after = max(now, document.get("StartTime", now) - 1e-3)
    found = schedule.next_after(after, document.get("StartTime", row.created))
    end = document.get("EndTime")
    return None if found is None or (end is not None and found > end) else found


def schedule_of(document: dict[str, Any]) -> Schedule:
    try:
        return parse_schedule(document["Schedule"], document.get("Timezone") or "UTC")
    except BadSchedule as problem:
        raise validation_error(f"Invalid Schedule {document['Schedule']}: {problem}.") from problem


def _new(call: Call, target: Row) -> Row:
    where = {"account": call.account, "region": call.region, "parent": target.name}
    if len(call.parts.store.rows.every(SCHEDULED_ACTION, **where)) >= ACTIONS_MAX:
        raise ApiError(
            f"A scalable target can have at most {ACTIONS_MAX} scheduled actions.",
            code="LimitExceededException",
            status=400,
        )
    name = call.input["ScheduledActionName"]
    arn = (
        f"arn:aws:autoscaling:{call.region}:{call.account}:scheduledAction:{uuid.uuid4()}:resource/"
        f"{call.input['ServiceNamespace']}/{call.input['ResourceId']}:scheduledActionName/{name}"
    )
    return Row(
        SCHEDULED_ACTION, name, arn, call.account, call.region, target.name, created=call.time
    )


def _check_bounds(document: dict[str, Any]) -> None:
    action = document.get("ScalableTargetAction") or {}
    low, high = action.get("MinCapacity"), action.get("MaxCapacity")
    if low is None and high is None:
        raise validation_error(
            "ScalableTargetAction must give a MinCapacity, a MaxCapacity or both."
        )
    if low is not None and high is not None and low > high:
        raise validation_error("Maximum capacity cannot be less than minimum capacity")
    start, end = document.get("StartTime"), document.get("EndTime")
    if start is not None and end is not None and start >= end:
        raise validation_error("StartTime must be before EndTime.")


@operation("DescribeScheduledActions", service=SERVICE)
def describe_scheduled_actions(call: Call) -> dict[str, Any]:
    names = call.input.get("ScheduledActionNames") or []
    found = [
        {**row.document, "ScheduledActionARN": row.arn, "CreationTime": row.created}
        for row in every(call, SCHEDULED_ACTION)
        if not names or row.name in names
    ]
    return page(call, found, "ScheduledActions")


@operation("DeleteScheduledAction", service=SERVICE)
def delete_scheduled_action(call: Call) -> dict[str, Any]:
    row = find_child(call, SCHEDULED_ACTION, call.input["ScheduledActionName"])
    try:
        call.parts.store.rows.delete(row)
    except RowChanged as problem:
        raise ApiError(
            f"The scheduled action {row.name} is being changed by another request. Please try again.",
            code="ConcurrentUpdateException",
            status=400,
        ) from problem
    return {}
