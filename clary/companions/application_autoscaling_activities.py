"""Application Auto Scaling: scaling activities, what was changed, why, and how that went."""

from __future__ import annotations

import uuid
from typing import Any

from clary.companions.application_autoscaling_names import ACTIVITY, every, page, validation_error
from clary.engine.call import Call, Parts, operation
from clary.store.rows import Query, Row, RowChanged

SERVICE = "application-autoscaling"
KEPT_SECONDS = 6 * 7 * 86_400.0  # DescribeScalingActivities tells of the last six weeks
ATTEMPTS_MAX = 5


@operation("DescribeScalingActivities", service=SERVICE)
def describe_scaling_activities(call: Call) -> dict[str, Any]:
    """The newest first."""
    if call.input.get("ScalableDimension") and not call.input.get("ResourceId"):
        raise validation_error("ScalableDimension is given without ResourceId.")
    rows = every(call, ACTIVITY)
    if not call.input.get("IncludeNotScaledActivities"):
        rows = [row for row in rows if not row.document.get("NotScaledReasons")]
    rows.sort(key=lambda row: row.document["StartTime"], reverse=True)
    return page(call, [row.document for row in rows], "ScalingActivities")


def begin_activity(parts: Parts, target: Row, description: str, cause: str, now: float) -> Row:
    activity = str(uuid.uuid4())
    row = Row(
        ACTIVITY,
        activity,
        f"{target.arn}/activity/{activity}",
        target.account,
        target.region,
        parent=target.name,
        document={
            "ActivityId": activity,
            **_named(target),
            "Description": description,
            "Cause": cause,
            "StartTime": now,
            "StatusCode": "InProgress",
        },
        created=now,
    )
    return parts.store.rows.insert(row)


def end_activity(
    parts: Parts, name: str, target: Row, status: str, message: str, now: float
) -> None:
    for _ in range(ATTEMPTS_MAX):
        row = parts.store.rows.get(
            ACTIVITY, name, account=target.account, region=target.region, parent=target.name
        )
        if row is None:
            return
        row.document |= {"StatusCode": status, "StatusMessage": message, "EndTime": now}
        try:
            parts.store.rows.update(row)
        except RowChanged:
            continue
        return


def note_not_scaled(
    parts: Parts, target: Row, cause: str, reason: dict[str, Any], now: float
) -> None:
    row = begin_activity(parts, target, "Attempting to scale due to alarm triggered", cause, now)
    row.document |= {
        "StatusCode": "Unfulfilled",
        "StatusMessage": "The capacity was left as it is.",
        "EndTime": now,
        "NotScaledReasons": [reason],
    }
    parts.store.rows.update(row)


def forget_old(parts: Parts, account: str, region: str, now: float) -> int:
    """Remove activities of more than six weeks ago, a bounded number at a time."""
    query = Query(ACTIVITY, account, region, created_before=now - KEPT_SECONDS, limit=500)
    rows, _ = parts.store.rows.page(query)
    for row in rows:
        parts.store.rows.delete(row)
    return len(rows)


def _named(target: Row) -> dict[str, Any]:
    members = ("ServiceNamespace", "ResourceId", "ScalableDimension")
    return {member: target.document[member] for member in members}
