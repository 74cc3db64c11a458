"""Application Auto Scaling: scalable targets, which say between which bounds a capacity may move."""

from __future__ import annotations

import uuid
from typing import Any

from clary.companions.application_autoscaling_capacity import (
    DIMENSIONS,
    capacity_of,
    check_resource,
)
from clary.companions.application_autoscaling_names import (
    POLICY,
    SCHEDULED_ACTION,
    TARGET,
    every,
    find_target,
    page,
    target_name,
    validation_error,
)
from clary.companions.application_autoscaling_policies import delete_policy
from clary.engine.call import Call, operation
from clary.model.errors import ApiError
from clary.store.rows import Row, RowChanged, RowExists

SERVICE = "application-autoscaling"
TAGS_MAX = 50
ATTEMPTS_MAX = 5
_SUSPENDED = (
    "DynamicScalingInSuspended",
    "DynamicScalingOutSuspended",
    "ScheduledScalingSuspended",
)


@operation("RegisterScalableTarget", service=SERVICE)
def register_scalable_target(call: Call) -> dict[str, Any]:
    """Register a target, or change the members given of one that is registered."""
    check_resource(call)
    for _ in range(ATTEMPTS_MAX):
        known = call.parts.store.rows.get(
            TARGET, target_name(call.input), account=call.account, region=call.region
        )
        row = known or _new(call)
        _merge(call, row)
        try:
            if known is None:
                call.parts.store.rows.insert(row)
            else:
                call.parts.store.rows.update(row)
        except (RowExists, RowChanged):
            continue
        return {"ScalableTargetARN": row.arn}
    raise ApiError(
        "Concurrent updates caused an exception, for example, if you request an update to an "
        "Application Auto Scaling resource that already has a pending update.",
        code="ConcurrentUpdateException",
        status=400,
    )


def _new(call: Call) -> Row:
    for member in ("MinCapacity", "MaxCapacity"):
        if call.input.get(member) is None:
            raise validation_error(
                f"{member} is required to register a new scalable target for {call.input['ResourceId']}."
            )
    if capacity_of(call.parts, call.account, call.region, call.input) is None:
        raise validation_error(
            f"No resource {call.input['ResourceId']} with the dimension "
            f"{call.input['ScalableDimension']} was found: create it before it is registered."
        )
    arn = f"arn:aws:{SERVICE}:{call.region}:{call.account}:scalable-target/{uuid.uuid4().hex[:26]}"
    return Row(
        TARGET,
        target_name(call.input),
        arn,
        call.account,
        call.region,
        document={
            member: call.input[member]
            for member in ("ServiceNamespace", "ResourceId", "ScalableDimension")
        },
        tags=_tags(call.input.get("Tags") or {}),
        created=call.time,
    )


def _merge(call: Call, row: Row) -> None:
    role = (
        f"arn:aws:iam::{call.account}:role/aws-service-role/sagemaker.application-autoscaling."
        f"amazonaws.com/{DIMENSIONS[call.input['ScalableDimension']].role}"
    )
    row.document.setdefault("RoleARN", role)
    for member in ("MinCapacity", "MaxCapacity", "RoleARN"):
        if call.input.get(member) is not None:
            row.document[member] = call.input[member]
    suspended: dict[str, bool] = dict(row.document.get("SuspendedState") or {})
    suspended |= call.input.get("SuspendedState") or {}
    row.document["SuspendedState"] = {one: suspended.get(one, False) for one in _SUSPENDED}
    low, high = row.document["MinCapacity"], row.document["MaxCapacity"]
    if low < 0 or low > high:
        raise validation_error(
            "Maximum capacity cannot be less than minimum capacity"
            if low > high
            else "Minimum capacity cannot be less than 0"
        )
    given = call.input.get("Tags")
    if given and row.id:
        raise validation_error("Tags of a registered target are changed by TagResource.")


@operation("DescribeScalableTargets", service=SERVICE)
def describe_scalable_targets(call: Call) -> dict[str, Any]:
    _require_dimension_with_resources(call)
    wanted = call.input.get("ResourceIds") or []
    found = [
        _described(row)
        for row in every(call, TARGET)
        if not wanted or row.document["ResourceId"] in wanted
    ]
    return page(call, found, "ScalableTargets")


def _require_dimension_with_resources(call: Call) -> None:
    if call.input.get("ScalableDimension") and not call.input.get("ResourceIds"):
        raise validation_error("ScalableDimension is given without ResourceIds.")


def _described(row: Row) -> dict[str, Any]:
    return {**row.document, "CreationTime": row.created, "ScalableTargetARN": row.arn}


@operation("DeregisterScalableTarget", service=SERVICE)
def deregister_scalable_target(call: Call) -> dict[str, Any]:
    """Its policies, with their alarms, and its scheduled actions go with it."""
    row = find_target(call)
    where = {"account": call.account, "region": call.region, "parent": row.name}
    for policy in call.parts.store.rows.every(POLICY, **where):
        delete_policy(call, policy)
    for action in call.parts.store.rows.every(SCHEDULED_ACTION, **where):
        call.parts.store.rows.delete(action)
    for _ in range(ATTEMPTS_MAX):
        try:
            call.parts.store.rows.delete(find_target(call))
        except RowChanged:
            continue
        break
    return {}


@operation("TagResource", service=SERVICE)
def tag_resource(call: Call) -> dict[str, Any]:
    row = _tagged(call)
    tags = {one["Key"]: one["Value"] for one in row.tags} | call.input["Tags"]
    if len(tags) > TAGS_MAX:
        message = f"A scalable target can have at most {TAGS_MAX} tags."
        raise ApiError(message, code="TooManyTagsException", status=400)
    _retag(call, tags)
    return {}


@operation("UntagResource", service=SERVICE)
def untag_resource(call: Call) -> dict[str, Any]:
    left_out = call.input["TagKeys"]
    tags = {one["Key"]: one["Value"] for one in _tagged(call).tags if one["Key"] not in left_out}
    _retag(call, tags)
    return {}


@operation("ListTagsForResource", service=SERVICE)
def list_tags_for_resource(call: Call) -> dict[str, Any]:
    return {"Tags": {one["Key"]: one["Value"] for one in _tagged(call).tags}}


def _retag(call: Call, tags: dict[str, str]) -> None:
    for _ in range(ATTEMPTS_MAX):
        row = _tagged(call)
        row.tags = _tags(tags)
        try:
            call.parts.store.rows.update(row)
        except RowChanged:
            continue
        return


def _tagged(call: Call) -> Row:
    arn = call.input["ResourceARN"]
    row = call.parts.store.rows.by_arn(arn)
    if row is None or row.kind != TARGET or row.region != call.region:
        raise ApiError(
            f"The resource {arn} is not registered.",
            code="ResourceNotFoundException",
            status=400,
            ResourceName=arn,
        )
    return row


def _tags(given: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in given.items()]
