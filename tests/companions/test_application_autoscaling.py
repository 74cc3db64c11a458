"""Application Auto Scaling: bounds, policies, schedules, and what they do to an endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clary.companions import (
    application_autoscaling_activities,
    application_autoscaling_policies,
    application_autoscaling_schedules,
    application_autoscaling_targets,
    cloudwatch,
    cloudwatch_alarms,
)
from clary.companions.application_autoscaling import scale_all
from clary.companions.application_autoscaling_decisions import (
    Bounds,
    History,
    Stepping,
    Tracking,
    decide,
)
from clary.engine.call import Call
from clary.identity.principals import Principal
from clary.model.errors import ApiError, ValidationException
from clary.settings import Settings
from clary.store.database import Store

ACCOUNT, REGION = "123456789012", "us-east-1"
NOON = 1_767_268_800.0
SERVICE = "application-autoscaling"
TARGET = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/shop/variant/A",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
INVOCATIONS = {
    "TargetValue": 100.0,
    "PredefinedMetricSpecification": {
        "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
    },
    "ScaleOutCooldown": 60,
    "ScaleInCooldown": 120,
}
STEPS = {
    "AdjustmentType": "ChangeInCapacity",
    "StepAdjustments": [
        {"MetricIntervalLowerBound": 0.0, "MetricIntervalUpperBound": 10.0, "ScalingAdjustment": 1},
        {"MetricIntervalLowerBound": 10.0, "ScalingAdjustment": 3},
    ],
    "Cooldown": 60,
}
HANDLERS = {
    member.answers: member
    for module in (
        application_autoscaling_activities,
        application_autoscaling_policies,
        application_autoscaling_schedules,
        application_autoscaling_targets,
        cloudwatch,
        cloudwatch_alarms,
    )
    for member in vars(module).values()
    if hasattr(member, "answers") and member.__module__ == module.__name__
}


class Scaled:
    """The companion over a store of its own, and one endpoint that does as it is told."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(f"sqlite:///{folder}/clary.db")
        self.now = NOON
        self.count = 1  # instances of the endpoint's variant
        self.busy = False
        self.parts: Any = SimpleNamespace(
            settings=Settings(account=ACCOUNT),
            store=self.store,
            telemetry=self.store,
            call=self.call,
        )

    def call(self, service: str, name: str, request: dict[str, Any], *, principal, region) -> Any:
        if service == "sagemaker":
            return self.sagemaker(name, request)
        made = Call(service, name, request, ACCOUNT, region, principal, "id", self.now, self.parts)
        return HANDLERS[service, name](made) or {}

    def sagemaker(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        if request["EndpointName"] != "shop":
            raise ValidationException("Could not find endpoint.")
        if name == "UpdateEndpointWeightsAndCapacities":
            (wanted,) = request["DesiredWeightsAndCapacities"]
            self.count = wanted["DesiredInstanceCount"]
            return {}
        variant = {
            "VariantName": "A",
            "DesiredInstanceCount": self.count,
            "CurrentInstanceCount": self.count,
        }
        status = "Updating" if self.busy else "InService"
        return {"EndpointStatus": status, "ProductionVariants": [variant]}

    def ask(self, name: str, service: str = SERVICE, **members: Any) -> dict[str, Any]:
        principal = Principal(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ada", "AIDA", "user", "ada")
        return self.call(service, name, members, principal=principal, region=REGION)

    def refused(self, name: str, **members: Any) -> tuple[str, str]:
        with pytest.raises(ApiError) as caught:
            self.ask(name, **members)
        return caught.value.code, caught.value.message

    def invocations(self, per_instance: float, minutes: int) -> None:
        """Minutes go by, each with as many invocations of every instance."""
        for _ in range(minutes):
            datum = {
                "MetricName": "InvocationsPerInstance",
                "Dimensions": [
                    {"Name": "EndpointName", "Value": "shop"},
                    {"Name": "VariantName", "Value": "A"},
                ],
                "Timestamp": datetime.fromtimestamp(self.now, UTC),
                "Value": per_instance,
            }
            service = Principal(ACCOUNT, "arn", "s", "service", "s")
            request = {"Namespace": "AWS/SageMaker", "MetricData": [datum]}
            self.call("cloudwatch", "PutMetricData", request, principal=service, region=REGION)
            self.now += 60
            self.now += 11  # alarms wait for late data
            scale_all(self.parts, self.now)
            self.now -= 11

    def activities(self, **members: Any) -> list[tuple[str, str]]:
        found = self.ask("DescribeScalingActivities", ServiceNamespace="sagemaker", **members)
        return [(one["Description"], one["StatusCode"]) for one in found["ScalingActivities"]]


@pytest.fixture
def scaled(tmp_path: Path) -> Iterator[Scaled]:
    made = Scaled(tmp_path)
    made.ask("RegisterScalableTarget", **TARGET, MinCapacity=1, MaxCapacity=4)
    yield made
    made.store.close()


def test_a_target_is_registered_changed_and_deregistered(scaled):
    (told,) = scaled.ask("DescribeScalableTargets", ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (told["MinCapacity"], told["MaxCapacity"]) == (1, 4)
    assert told["RoleARN"].endswith("/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint")
    assert told["ScalableTargetARN"].startswith(f"arn:aws:{SERVICE}:{REGION}:{ACCOUNT}:scalable-")
    arn = scaled.ask("RegisterScalableTarget", **TARGET, MaxCapacity=6)["ScalableTargetARN"]
    (told,) = scaled.ask("DescribeScalableTargets", ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (told["MinCapacity"], told["MaxCapacity"], told["ScalableTargetARN"]) == (1, 6, arn)
    assert scaled.refused("RegisterScalableTarget", **TARGET, MinCapacity=9)[0] == (
        "ValidationException"
    )
    scaled.ask("TagResource", ResourceARN=arn, Tags={"team": "shop"})
    assert scaled.ask("ListTagsForResource", ResourceARN=arn) == {"Tags": {"team": "shop"}}
    scaled.ask("DeregisterScalableTarget", **TARGET)
    code, words = scaled.refused("DeregisterScalableTarget", **TARGET)
    assert code == "ObjectNotFoundException"
    assert words.startswith("No scalable target registered for service namespace: sagemaker")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"ServiceNamespace": "ecs"}, "Unsupported service namespace"),
        ({"ResourceId": "endpoint/shop"}, "does not fit"),
        ({"ResourceId": "endpoint/shop/variant/B"}, "No resource endpoint/shop/variant/B"),
        ({"ResourceId": "endpoint/other/variant/A"}, "No resource endpoint/other/variant/A"),
    ],
)
def test_what_cannot_be_scaled_is_not_registered(scaled, members, words):
    code, text = scaled.refused(
        "RegisterScalableTarget", **{**TARGET, **members}, MinCapacity=1, MaxCapacity=2
    )
    assert code == "ValidationException" and words in text


def track(scaled: Scaled, **changes: Any) -> dict[str, Any]:
    return scaled.ask(
        "PutScalingPolicy",
        PolicyName="load",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={**INVOCATIONS, **changes},
        **TARGET,
    )


def test_target_tracking_keeps_two_alarms_as_long_as_it_lives(scaled):
    made = track(scaled)
    names = sorted(one["AlarmName"] for one in made["Alarms"])
    assert names[0].startswith("TargetTracking-endpoint/shop/variant/A-AlarmHigh-")
    assert names[1].startswith("TargetTracking-endpoint/shop/variant/A-AlarmLow-")
    alarms = scaled.ask("DescribeAlarms", "cloudwatch", AlarmNames=names)["MetricAlarms"]
    told = [(one["Threshold"], one["EvaluationPeriods"], one["AlarmActions"]) for one in alarms]
    assert told == [(100.0, 3, [made["PolicyARN"]]), (90.0, 15, [made["PolicyARN"]])]
    assert track(scaled, TargetValue=50.0)["PolicyARN"] == made["PolicyARN"]
    (policy,) = scaled.ask("DescribeScalingPolicies", ServiceNamespace="sagemaker")[
        "ScalingPolicies"
    ]
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 50.0
    assert len(scaled.ask("DescribeAlarms", "cloudwatch")["MetricAlarms"]) == 2
    scaled.ask("DeleteScalingPolicy", PolicyName="load", **TARGET)
    assert scaled.ask("DescribeAlarms", "cloudwatch")["MetricAlarms"] == []
    assert scaled.refused("DeleteScalingPolicy", PolicyName="load", **TARGET)[0] == (
        "ObjectNotFoundException"
    )


def test_load_brings_instances_and_quiet_takes_them_away(scaled):
    track(scaled)
    scaled.invocations(250, 2)
    assert scaled.count == 1  # two minutes are not three
    scaled.invocations(250, 1)
    assert scaled.count == 3
    assert scaled.activities() == [("Setting desired count to 3.", "InProgress")]
    scaled.invocations(95, 2)
    assert scaled.activities() == [("Setting desired count to 3.", "Successful")]
    assert scaled.count == 3
    scaled.invocations(20, 15)
    assert scaled.count == 1
    assert [one[0] for one in scaled.activities()] == [
        "Setting desired count to 1.",
        "Setting desired count to 3.",
    ]
    (newest, *_) = scaled.ask("DescribeScalingActivities", ServiceNamespace="sagemaker")[
        "ScalingActivities"
    ]
    assert "AlarmLow" in newest["Cause"] and "triggered policy load" in newest["Cause"]


def test_capacity_stays_within_its_bounds_and_the_reason_is_told(scaled):
    track(scaled)
    scaled.invocations(5_000, 3)
    assert scaled.count == 4
    scaled.invocations(5_000, 5)
    assert scaled.count == 4
    assert len(scaled.activities()) == 1
    told = scaled.ask(
        "DescribeScalingActivities", ServiceNamespace="sagemaker", IncludeNotScaledActivities=True
    )["ScalingActivities"]
    reasons = [one["NotScaledReasons"] for one in told if "NotScaledReasons" in one]
    assert reasons == [[{"Code": "AlreadyAtMaxCapacity", "CurrentCapacity": 4, "MaxCapacity": 4}]]


def test_an_endpoint_that_is_being_updated_is_left_alone(scaled):
    track(scaled)
    scaled.busy = True
    scaled.invocations(500, 4)
    assert scaled.count == 1
    scaled.busy = False
    scaled.invocations(500, 1)
    assert scaled.count == 4


def test_a_users_alarm_sets_a_step_policy_off(scaled):
    policy = scaled.ask(
        "PutScalingPolicy", PolicyName="steps", StepScalingPolicyConfiguration=STEPS, **TARGET
    )
    scaled.ask(
        "PutMetricAlarm",
        "cloudwatch",
        AlarmName="busy",
        Namespace="AWS/SageMaker",
        MetricName="InvocationsPerInstance",
        Dimensions=[
            {"Name": "EndpointName", "Value": "shop"},
            {"Name": "VariantName", "Value": "A"},
        ],
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=50.0,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=[policy["PolicyARN"]],
    )
    scaled.invocations(55, 1)
    assert scaled.count == 2
    scaled.invocations(40, 1)
    scaled.invocations(65, 1)
    assert scaled.count == 4


def test_a_scheduled_action_moves_the_bounds_and_the_capacity(scaled):
    scaled.ask(
        "PutScheduledAction",
        ScheduledActionName="morning",
        Schedule="at(2026-01-01T12:10:00)",
        ScalableTargetAction={"MinCapacity": 3},
        **TARGET,
    )
    scale_all(scaled.parts, scaled.now + 599)
    assert scaled.count == 1
    scale_all(scaled.parts, scaled.now + 601)
    assert scaled.count == 3
    (told,) = scaled.ask("DescribeScalableTargets", ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (told["MinCapacity"], told["MaxCapacity"]) == (3, 4)
    (done,) = scaled.ask("DescribeScalingActivities", ServiceNamespace="sagemaker")[
        "ScalingActivities"
    ]
    assert done["Cause"] == (
        "scheduled action name morning was triggered; minimum capacity was set to 3"
    )
    scale_all(scaled.parts, scaled.now + 7_000)
    assert len(scaled.activities()) == 1
    (action,) = scaled.ask("DescribeScheduledActions", ServiceNamespace="sagemaker")[
        "ScheduledActions"
    ]
    assert action["ScheduledActionARN"].endswith(":scheduledActionName/morning")
    scaled.ask("DeleteScheduledAction", ScheduledActionName="morning", **TARGET)
    assert scaled.refused("DeleteScheduledAction", ScheduledActionName="morning", **TARGET)[0] == (
        "ObjectNotFoundException"
    )


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"Schedule": "cron(99 * * * ? *)"}, "Invalid Schedule"),
        ({"Schedule": "rate(1 day)", "ScalableTargetAction": {}}, "MinCapacity, a MaxCapacity"),
        ({"ScalableTargetAction": {"MinCapacity": 1}}, "Schedule is required"),
    ],
)
def test_a_scheduled_action_that_says_nothing_is_refused(scaled, members, words):
    given = {"ScalableTargetAction": {"MinCapacity": 1}, **members}
    code, text = scaled.refused("PutScheduledAction", ScheduledActionName="a", **given, **TARGET)
    assert code == "ValidationException" and words in text


def steps(*bounds: tuple[float | None, float | None]) -> dict[str, Any]:
    adjustments = [
        {"MetricIntervalLowerBound": low, "MetricIntervalUpperBound": high, "ScalingAdjustment": 1}
        for low, high in bounds
    ]
    return {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": adjustments}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (steps((0, 10), (5, None)), "overlap"),
        (steps((0, 10), (15, None)), "gap"),
        (steps((10, 10)), "greater than"),
        ({"AdjustmentType": "ChangeInCapacity", "StepAdjustments": []}, "from 1 to 20"),
    ],
)
def test_steps_cover_their_range_once(scaled, config, words):
    code, text = scaled.refused(
        "PutScalingPolicy", PolicyName="p", StepScalingPolicyConfiguration=config, **TARGET
    )
    assert code == "ValidationException" and words in text


def tracking(name: str = "p", value: float = 200.0, **members: Any) -> Tracking:
    config = {"TargetValue": 100.0, **members.pop("config", {})}
    return Tracking(name, config, "high", "low", value=value, **members)


BOUNDS = Bounds(1, 10)


def test_the_policy_that_wants_most_wins():
    outcome = decide(
        2, BOUNDS, [tracking("a", is_high=True), tracking("b", 350, is_high=True)], History(), 1e6
    )
    assert outcome.capacity == 7 and outcome.proposal and outcome.proposal.policy == "b"


def test_scaling_in_needs_the_consent_of_every_tracking_policy():
    low = tracking("a", 10, is_low=True)
    calm = tracking("b", 95)
    assert decide(4, BOUNDS, [low, calm], History(), 1e6).capacity is None
    silent = tracking("b", 95, config={"DisableScaleIn": True})
    assert decide(4, BOUNDS, [low, silent], History(), 1e6).capacity == 1


@pytest.mark.parametrize(
    ("history", "seconds", "capacity"),
    [
        (History(last_out=1000.0), 299, None),
        (History(last_out=1000.0), 301, 4),
        (History(last_in=1000.0), 10, 4),
    ],
)
def test_scaling_out_waits_for_its_own_cooldown_only(history, seconds, capacity):
    outcome = decide(2, BOUNDS, [tracking(is_high=True)], history, 1000.0 + seconds)
    assert outcome.capacity == capacity


@pytest.mark.parametrize(
    ("kind", "adjustment", "current", "capacity"),
    [
        ("PercentChangeInCapacity", 10, 3, 4),  # 0.3 is rounded up to 1
        ("PercentChangeInCapacity", 50, 5, 7),  # 2.5 is rounded down
        ("PercentChangeInCapacity", -50, 5, 3),
        ("ExactCapacity", 6, 2, 6),
        ("ChangeInCapacity", -9, 4, 1),
    ],
)
def test_a_step_adjusts_as_its_type_says(kind, adjustment, current, capacity):
    config = {"AdjustmentType": kind, "StepAdjustments": [{"ScalingAdjustment": adjustment}]}
    policy = Stepping("p", config, "alarm", 10.0, 20.0)
    assert decide(current, BOUNDS, [policy], History(), 1e6).capacity == capacity


def test_a_suspended_direction_is_left_out():
    outcome = decide(2, Bounds(1, 9, out_suspended=True), [tracking(is_high=True)], History(), 1e6)
    assert (outcome.capacity, outcome.reason) == (None, "ScalingOutSuspended")
