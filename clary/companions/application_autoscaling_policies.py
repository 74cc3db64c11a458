"""Application Auto Scaling: policies, and the alarms that target tracking keeps for itself."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from clary.companions.application_autoscaling_metrics import tracking_alarms
from clary.companions.application_autoscaling_names import (
    POLICY,
    child,
    every,
    find_child,
    find_target,
    page,
    validation_error,
)
from clary.engine.call import Call, Parts, operation
from clary.identity.principals import service_principal
from clary.model.errors import ApiError, NotImplementedException
from clary.store.rows import Row, RowChanged, RowExists

SERVICE = "application-autoscaling"
POLICIES_MAX = 50
STEPS_MAX = 20
ATTEMPTS_MAX = 5
_MEMBERS = ("PolicyName", "ServiceNamespace", "ResourceId", "ScalableDimension")
_CONFIGURATIONS = {
    "StepScaling": "StepScalingPolicyConfiguration",
    "TargetTrackingScaling": "TargetTrackingScalingPolicyConfiguration",
}


@operation("PutScalingPolicy", service=SERVICE)
def put_scaling_policy(call: Call) -> dict[str, Any]:
    """Create a policy, or replace the configuration of one; its alarms are made anew."""
    target = find_target(call)
    name = call.input["PolicyName"]
    known = child(call, POLICY, name)
    document = _document(call, known)
    if known is None:
        if len(_of_target(call, target)) >= POLICIES_MAX:
            raise ApiError(
                f"A scalable target can have at most {POLICIES_MAX} scaling policies.",
                code="LimitExceededException",
                status=400,
            )
        known = Row(POLICY, name, _arn(call), call.account, call.region, parent=target.name)
        known.created = call.time
    alarms: dict[str, dict[str, Any]] = {}
    if document["PolicyType"] == "TargetTrackingScaling":
        config = document["TargetTrackingScalingPolicyConfiguration"]
        _check_only_tracker(call, target, name, config)
        alarms = tracking_alarms(known.arn, config, document)
    old = known.state.get("alarms", {})
    for request in alarms.values():
        _cloudwatch(call.parts, known, "PutMetricAlarm", request)
    made = {key: request["AlarmName"] for key, request in alarms.items()}
    try:
        _keep(call, known, document, made)
    except ApiError:
        _delete_alarms(call.parts, known, made.values())
        raise
    _delete_alarms(call.parts, known, old.values())
    return {"PolicyARN": known.arn, "Alarms": _alarms_shown(known)}


def _keep(call: Call, row: Row, document: dict[str, Any], alarms: dict[str, str]) -> None:
    row.document, row.state = document, {"alarms": alarms}
    try:
        if row.id:
            call.parts.store.rows.update(row)
        else:
            call.parts.store.rows.insert(row)
    except (RowChanged, RowExists) as problem:
        raise ApiError(
            f"The scaling policy {row.name} is being changed by another request. Please try again.",
            code="ConcurrentUpdateException",
            status=400,
        ) from problem


def _document(call: Call, known: Row | None) -> dict[str, Any]:
    kind = call.input.get("PolicyType") or (
        known.document["PolicyType"] if known is not None else "StepScaling"
    )
    if known is not None and kind != known.document["PolicyType"]:
        raise validation_error(
            f"The policy type of {known.name} is {known.document['PolicyType']} and cannot be "
            "changed: delete the policy first."
        )
    if kind == "PredictiveScaling":
        raise NotImplementedException(
            "Predictive scaling policies are not built yet in this version of Clary."
        )
    member = _CONFIGURATIONS[kind]
    config = call.input.get(member)
    if not config:
        raise validation_error(f"{member} is required for a policy of type {kind}.")
    others = [one for one in _CONFIGURATIONS.values() if one != member and call.input.get(one)]
    if others:
        raise validation_error(f"{others[0]} cannot be given for a policy of type {kind}.")
    if kind == "StepScaling":
        _check_steps(config)
    elif not config["TargetValue"] > 0:
        raise validation_error("TargetValue must be greater than 0.")
    _check_cooldowns(config)
    return {**{one: call.input[one] for one in _MEMBERS}, "PolicyType": kind, member: config}


def _check_cooldowns(config: Mapping[str, Any]) -> None:
    for member in ("Cooldown", "ScaleOutCooldown", "ScaleInCooldown"):
        if (config.get(member) or 0) < 0:
            raise validation_error(f"{member} must not be negative.")


def _check_steps(config: Mapping[str, Any]) -> None:
    """The intervals of the steps must not overlap, nor leave a gap."""
    steps: Sequence[Mapping[str, Any]] = config.get("StepAdjustments") or []
    if not config.get("AdjustmentType"):
        raise validation_error("AdjustmentType is required in a StepScalingPolicyConfiguration.")
    if not 1 <= len(steps) <= STEPS_MAX:
        raise validation_error(f"StepAdjustments must have from 1 to {STEPS_MAX} elements.")
    infinite = float("inf")
    spans = sorted(
        (
            -infinite
            if step.get("MetricIntervalLowerBound") is None
            else step["MetricIntervalLowerBound"],
            infinite
            if step.get("MetricIntervalUpperBound") is None
            else step["MetricIntervalUpperBound"],
        )
        for step in steps
    )
    for low, high in spans:
        if low >= high:
            raise validation_error(
                "A step adjustment's upper bound must be greater than its lower bound."
            )
    for (_, high), (low, _) in itertools.pairwise(spans):
        if high != low:
            word = "overlap" if high > low else "have a gap"
            raise validation_error(f"The intervals of the step adjustments {word} at {low}.")


def _check_only_tracker(call: Call, target: Row, name: str, config: Mapping[str, Any]) -> None:
    """Two policies cannot track the same predefined metric of a target."""
    wanted = (config.get("PredefinedMetricSpecification") or {}).get("PredefinedMetricType")
    for row in _of_target(call, target) if wanted else ():
        other = row.document.get("TargetTrackingScalingPolicyConfiguration") or {}
        tracked = other.get("PredefinedMetricSpecification") or {}
        if row.name != name and tracked.get("PredefinedMetricType") == wanted:
            raise validation_error(
                "Only one TargetTrackingScaling policy for a given metric specification is allowed."
            )


def _of_target(call: Call, target: Row) -> list[Row]:
    return call.parts.store.rows.every(
        POLICY, account=call.account, region=call.region, parent=target.name
    )


def _arn(call: Call) -> str:
    return (
        f"arn:aws:autoscaling:{call.region}:{call.account}:scalingPolicy:{uuid.uuid4()}:resource/"
        f"{call.input['ServiceNamespace']}/{call.input['ResourceId']}:policyName/"
        f"{call.input['PolicyName']}"
    )


@operation("DescribeScalingPolicies", service=SERVICE)
def describe_scaling_policies(call: Call) -> dict[str, Any]:
    names = call.input.get("PolicyNames") or []
    found = [_described(row) for row in every(call, POLICY) if not names or row.name in names]
    return page(call, found, "ScalingPolicies")


def _described(row: Row) -> dict[str, Any]:
    return {
        **row.document,
        "PolicyARN": row.arn,
        "Alarms": _alarms_shown(row),
        "CreationTime": row.created,
    }


def _alarms_shown(row: Row) -> list[dict[str, str]]:
    stem = f"arn:aws:cloudwatch:{row.region}:{row.account}:alarm:"
    names = row.state.get("alarms", {}).values()
    return [{"AlarmName": name, "AlarmARN": stem + name} for name in names]


@operation("DeleteScalingPolicy", service=SERVICE)
def delete_scaling_policy(call: Call) -> dict[str, Any]:
    delete_policy(call, find_child(call, POLICY, call.input["PolicyName"]))
    return {}


def delete_policy(call: Call, row: Row) -> None:
    """Its alarms go first, so that none is left without a policy."""
    _delete_alarms(call.parts, row, row.state.get("alarms", {}).values())
    for _ in range(ATTEMPTS_MAX):
        try:
            call.parts.store.rows.delete(row)
        except RowChanged:
            fresh = call.parts.store.rows.by_id(row.id)
            if fresh is None:
                return
            row = fresh
            continue
        return


def _delete_alarms(parts: Parts, row: Row, names: Any) -> None:
    for name in names:
        try:
            _cloudwatch(parts, row, "DeleteAlarms", {"AlarmNames": [name]})
        except ApiError as problem:
            if problem.code != "ResourceNotFound":
                raise


def _cloudwatch(parts: Parts, row: Row, name: str, request: dict[str, Any]) -> dict[str, Any]:
    principal = service_principal(row.account, "sagemaker.application-autoscaling.amazonaws.com")
    return parts.call("cloudwatch", name, request, principal=principal, region=row.region)
