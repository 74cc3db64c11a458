"""What an alarm does when its state changes: it calls the services that its actions name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from clary.companions.cloudwatch_alarm_history import KIND, happened
from clary.engine.call import Parts
from clary.identity.principals import service_principal
from clary.model.errors import ApiError
from clary.store.rows import Row

log = logging.getLogger(__name__)

SCALING_POLICY = "application-autoscaling:ScalingPolicy"
_ACTIONS_OF = {
    "ALARM": "AlarmActions",
    "OK": "OKActions",
    "INSUFFICIENT_DATA": "InsufficientDataActions",
}


def act(parts: Parts, alarm: Row, old: dict[str, Any], now: float) -> None:
    """Call every action of the new state; what fails is written into the alarm's history."""
    if not alarm.document.get("ActionsEnabled", True):
        return
    for arn in alarm.document.get(_ACTIONS_OF[alarm.status]) or []:
        try:
            _call(parts, alarm, arn, old)
        except ApiError as problem:
            log.warning("alarm %s could not call %s: %s", alarm.name, arn, problem.message)
            summary = f'Failed to execute action {arn}. Received error: "{problem.message}"'
            outcome = {"actionState": "Failed", "error": problem.message}
        else:
            summary, outcome = f"Successfully executed action {arn}", {"actionState": "Succeeded"}
        data = {**outcome, "notificationResource": arn, "stateUpdateTimestamp": int(now * 1000)}
        parts.store.rows.record(KIND, alarm.arn, happened("Action", summary, data, now))


def _call(parts: Parts, alarm: Row, arn: str, old: dict[str, Any]) -> None:
    fields = arn.split(":", 5)
    service = fields[2] if len(fields) == 6 else ""
    call = _CALLS.get(service)
    if call is None:
        raise ApiError(f"Clary cannot call {arn}.", code="InvalidParameterValue", status=400)
    call(parts, alarm, arn, old)


def _publish(parts: Parts, alarm: Row, arn: str, old: dict[str, Any]) -> None:
    request = {
        "TopicArn": arn,
        "Subject": f'{alarm.status}: "{alarm.name}" in {alarm.region}'[:100],
        "Message": orjson.dumps(_message(alarm, old)).decode(),
    }
    principal = service_principal(alarm.account, "cloudwatch")
    parts.call("sns", "Publish", request, principal=principal, region=arn.split(":")[3])


def _invoke(parts: Parts, alarm: Row, arn: str, old: dict[str, Any]) -> None:
    payload = {
        "source": "aws.cloudwatch",
        "alarmArn": alarm.arn,
        "accountId": alarm.account,
        "time": _iso(alarm.state["Updated"]),
        "region": alarm.region,
        "alarmData": {
            "alarmName": alarm.name,
            "state": {"value": alarm.status, "reason": alarm.state["Reason"]},
            "previousState": {"value": old["stateValue"], "reason": old["stateReason"]},
        },
    }
    request = {
        "FunctionName": arn,
        "InvocationType": "Event",
        "Payload": orjson.dumps(payload),
    }
    principal = service_principal(alarm.account, "cloudwatch")
    parts.call("lambda", "Invoke", request, principal=principal, region=arn.split(":")[3])


def _scale(parts: Parts, alarm: Row, arn: str, old: dict[str, Any]) -> None:
    """Application Auto Scaling reads the alarms of its policies by itself, every few seconds for as long as they are
    in ALARM; here a policy that is gone is told in the history instead of nothing ever happening.
    """
    policy = parts.store.rows.by_arn(arn)
    if policy is None or policy.kind != SCALING_POLICY:
        raise ApiError(f"No scaling policy found with the ARN {arn}.", code="ValidationError")


_CALLS: dict[str, Callable[[Parts, Row, str, dict[str, Any]], None]] = {
    "sns": _publish,
    "lambda": _invoke,
    "autoscaling": _scale,
}


def _message(alarm: Row, old: dict[str, Any]) -> dict[str, Any]:
    config = alarm.document
    dimensions = config.get("Dimensions") or []
    return {
        "AlarmName": alarm.name,
        "AlarmDescription": config.get("AlarmDescription"),
        "AWSAccountId": alarm.account,
        "AlarmConfigurationUpdatedTimestamp": _iso(alarm.state["Configured"]),
        "NewStateValue": alarm.status,
        "NewStateReason": alarm.state["Reason"],
        "StateChangeTime": _iso(alarm.state["Updated"]),
        "Region": alarm.region,
        "AlarmArn": alarm.arn,
        "OldStateValue": old["stateValue"],
        "OKActions": config.get("OKActions") or [],
        "AlarmActions": config.get("AlarmActions") or [],
        "InsufficientDataActions": config.get("InsufficientDataActions") or [],
        "Trigger": {
            "MetricName": config.get("MetricName"),
            "Namespace": config.get("Namespace"),
            "StatisticType": "Statistic",
            "Statistic": str(config.get("Statistic") or config.get("ExtendedStatistic")).upper(),
            "Unit": config.get("Unit"),
            "Dimensions": [{"name": one["Name"], "value": one["Value"]} for one in dimensions],
            "Period": config.get("Period"),
            "EvaluationPeriods": config["EvaluationPeriods"],
            "ComparisonOperator": config["ComparisonOperator"],
            "Threshold": config["Threshold"],
            "TreatMissingData": config.get("TreatMissingData") or "missing",
        },
    }


def _iso(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%S.000+0000}"
