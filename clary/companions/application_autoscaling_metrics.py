"""The metrics that target tracking knows by name, and the alarms that watch a policy's metric."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clary.companions.application_autoscaling_decisions import LOW_FRACTION
from clary.companions.application_autoscaling_names import validation_error

_VARIANT = re.compile(r"endpoint/([^/]+)/variant/([^/]+)")


@dataclass(frozen=True, slots=True)
class Predefined:
    metric: str
    statistic: str
    dimension: str  # the scalable dimension that it can be used with
    namespace: str = "AWS/SageMaker"
    period: int = 60


_INSTANCES = "sagemaker:variant:DesiredInstanceCount"
_PROVISIONED = "sagemaker:variant:DesiredProvisionedConcurrency"
_COPIES = "sagemaker:inference-component:DesiredCopyCount"
PREDEFINED = {
    "SageMakerVariantInvocationsPerInstance": Predefined(
        "InvocationsPerInstance", "Sum", _INSTANCES
    ),
    "SageMakerVariantConcurrentRequestsPerModelHighResolution": Predefined(
        "ConcurrentRequestsPerModel", "Maximum", _INSTANCES, period=10
    ),
    "SageMakerVariantProvisionedConcurrencyUtilization": Predefined(
        "ServerlessProvisionedConcurrencyUtilization", "Maximum", _PROVISIONED
    ),
    "SageMakerInferenceComponentInvocationsPerCopy": Predefined(
        "InvocationsPerCopy", "Sum", _COPIES
    ),
    "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution": Predefined(
        "ConcurrentRequestsPerCopy", "Maximum", _COPIES, period=10
    ),
}


def tracked_metric(config: Mapping[str, Any], target: Mapping[str, Any]) -> dict[str, Any]:
    """The members of PutMetricAlarm that name the metric of a target-tracking policy."""
    predefined = config.get("PredefinedMetricSpecification")
    customized = config.get("CustomizedMetricSpecification")
    if bool(predefined) == bool(customized):
        raise validation_error(
            "Exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification must "
            "be given."
        )
    if predefined:
        return _predefined(predefined["PredefinedMetricType"], target)
    assert customized is not None
    if customized.get("Metrics"):
        return {"Metrics": [_query(one) for one in customized["Metrics"]]}
    for member in ("MetricName", "Namespace", "Statistic"):
        if not customized.get(member):
            raise validation_error(f"{member} is required in a CustomizedMetricSpecification.")
    members = ("MetricName", "Namespace", "Dimensions", "Statistic", "Unit")
    given = {member: customized[member] for member in members if customized.get(member)}
    return {**given, "Period": 60}


def _predefined(name: str, target: Mapping[str, Any]) -> dict[str, Any]:
    found = PREDEFINED.get(name)
    if found is None or found.dimension != target["ScalableDimension"]:
        raise validation_error(
            f"Invalid predefined metric type {name} for {target['ScalableDimension']}."
        )
    resource = target["ResourceId"]
    variant = _VARIANT.fullmatch(resource)
    if variant:
        pairs = {"EndpointName": variant[1], "VariantName": variant[2]}
    else:
        pairs = {"InferenceComponentName": resource.partition("/")[2]}
    return {
        "Namespace": found.namespace,
        "MetricName": found.metric,
        "Statistic": found.statistic,
        "Period": found.period,
        "Dimensions": [{"Name": key, "Value": value} for key, value in pairs.items()],
    }


def _query(given: Mapping[str, Any]) -> dict[str, Any]:
    """A query of an alarm has a period; those of a policy are of a minute."""
    query = dict(given)
    if "MetricStat" in query:
        query["MetricStat"] = {**query["MetricStat"], "Period": 60}
    else:
        query["Period"] = 60
    return query


def tracking_alarms(
    policy_arn: str, config: Mapping[str, Any], target: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The requests of PutMetricAlarm for a policy, by "high" and "low": three breaches scale out, fifteen scale in."""
    metric = tracked_metric(config, target)
    stem = f"TargetTracking-{target['ResourceId']}"
    common: dict[str, Any] = {
        **metric,
        "AlarmActions": [policy_arn],
        "AlarmDescription": (
            f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy_arn}."
        ),
    }
    goal = float(config["TargetValue"])
    alarms = {
        "high": {
            **common,
            "AlarmName": f"{stem}-AlarmHigh-{uuid.uuid4()}",
            "ComparisonOperator": "GreaterThanThreshold",
            "Threshold": goal,
            "EvaluationPeriods": 3,
        }
    }
    if not config.get("DisableScaleIn"):
        alarms["low"] = {
            **common,
            "AlarmName": f"{stem}-AlarmLow-{uuid.uuid4()}",
            "ComparisonOperator": "LessThanThreshold",
            "Threshold": round(goal * LOW_FRACTION, 9),
            "EvaluationPeriods": 15,
        }
    return alarms
