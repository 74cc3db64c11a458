"""How the rows of Application Auto Scaling are named and found, and what it says of those that are not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.engine.call import Call
from clary.model.errors import ApiError
from clary.store.rows import Row

TARGET = "application-autoscaling:ScalableTarget"
POLICY = "application-autoscaling:ScalingPolicy"
SCHEDULED_ACTION = "application-autoscaling:ScheduledAction"
ACTIVITY = "application-autoscaling:ScalingActivity"
PAGE_DEFAULT = 50
_WORDS = {POLICY: ("scaling policy", "policy name"), SCHEDULED_ACTION: ("scheduled action", "name")}


def target_name(request: Mapping[str, Any]) -> str:
    """Namespace, resource and dimension together are one target."""
    return "|".join(
        str(request[member]) for member in ("ServiceNamespace", "ResourceId", "ScalableDimension")
    )


def validation_error(message: str) -> ApiError:
    return ApiError(message, code="ValidationException", status=400)


def not_found(message: str) -> ApiError:
    return ApiError(message, code="ObjectNotFoundException", status=400)


def _place(request: Mapping[str, Any]) -> str:
    return (
        f"service namespace: {request['ServiceNamespace']}, resource ID: {request['ResourceId']}, "
        f"scalable dimension: {request['ScalableDimension']}"
    )


def find_target(call: Call) -> Row:
    row = call.parts.store.rows.get(
        TARGET, target_name(call.input), account=call.account, region=call.region
    )
    if row is None:
        raise not_found(f"No scalable target registered for {_place(call.input)}")
    return row


def find_child(call: Call, kind: str, name: str) -> Row:
    """A policy or a scheduled action of a target."""
    row = child(call, kind, name)
    if row is None:
        noun, member = _WORDS[kind]
        raise not_found(f"No {noun} found for {_place(call.input)}, {member}: {name}")
    return row


def child(call: Call, kind: str, name: str) -> Row | None:
    return call.parts.store.rows.get(
        kind, name, account=call.account, region=call.region, parent=target_name(call.input)
    )


def every(call: Call, kind: str) -> list[Row]:
    """Those that match the ServiceNamespace, ResourceId and ScalableDimension of a Describe request."""
    wanted = {
        member: call.input[member]
        for member in ("ServiceNamespace", "ResourceId", "ScalableDimension")
        if call.input.get(member)
    }
    rows = call.parts.store.rows.every(kind, account=call.account, region=call.region)
    return [row for row in rows if all(row.document[one] == wanted[one] for one in wanted)]


def page(call: Call, found: list[dict[str, Any]], member: str) -> dict[str, Any]:
    """The token is how many were told before."""
    token = call.input.get("NextToken") or "0"
    if not token.isascii() or not token.isdigit() or len(token) > 9:
        raise ApiError("Invalid NextToken", code="InvalidNextTokenException", status=400)
    limit = call.input.get("MaxResults") or PAGE_DEFAULT
    if limit < 1:
        raise validation_error("MaxResults must be at least 1.")
    first = int(token)
    last = first + min(limit, PAGE_DEFAULT)
    more = {"NextToken": str(last)} if len(found) > last else {}
    return {member: found[first:last], **more}
