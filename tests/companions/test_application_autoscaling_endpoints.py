"""Application Auto Scaling on real endpoints: what is invoked, how long alarms last, and which instances come and go.

Only the clock is turned forward; models, hosts, routes, metrics, alarms and updates are real.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.companions.scaled_endpoints import Bench, bench_with
from tests.journeys.conftest import ROLE, archive, wait_until

pytestmark = pytest.mark.xdist_group("endpoints")

SERVICE = "application-autoscaling"
INSTANCES = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
PREDEFINED = "PredefinedMetricSpecification"


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with bench_with(archive) as made:
        made.model("model")
        yield made


def register(bench: Bench, resource: str, dimension: str, low: int, high: int) -> dict[str, str]:
    target = {"ServiceNamespace": "sagemaker", "ResourceId": resource}
    target["ScalableDimension"] = f"sagemaker:{dimension}"
    bench.ask("RegisterScalableTarget", SERVICE, **target, MinCapacity=low, MaxCapacity=high)
    return target


def track(bench: Bench, target: dict[str, str], goal: float, **metric: Any) -> None:
    config = {"TargetValue": goal, "ScaleOutCooldown": 60, "ScaleInCooldown": 120, **metric}
    bench.ask(
        "PutScalingPolicy",
        SERVICE,
        **target,
        PolicyName="tracking",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=config,
    )


def activities(bench: Bench, target: dict[str, str]) -> list[tuple[str, str]]:
    found = bench.ask(
        "DescribeScalingActivities",
        SERVICE,
        ServiceNamespace="sagemaker",
        ResourceId=target["ResourceId"],
    )
    return [(one["Description"], one["StatusCode"]) for one in found["ScalingActivities"]]


def put(bench: Bench, value: float, minutes: int) -> None:
    """A metric of the user's own, once a minute."""
    for _ in range(minutes):
        bench.clock.ahead += 60
        datum = {"MetricName": "Queue", "Value": value}
        datum["Timestamp"] = datetime.fromtimestamp(bench.clock() - 60, UTC)
        bench.ask("PutMetricData", "cloudwatch", Namespace="Shop", MetricData=[datum])
    bench.pass_minutes(0.3)  # late data are waited for


def running(bench: Bench, name: str) -> tuple[int, int]:
    shown = bench.variant(name)
    return shown["CurrentInstanceCount"], shown["DesiredInstanceCount"]


def test_invocations_bring_instances_and_their_end_takes_them_away(bench: Bench):
    bench.endpoint("shop", {"ModelName": "model", **INSTANCES})
    target = register(bench, "endpoint/shop/variant/A", "variant:DesiredInstanceCount", 1, 3)
    metric = {PREDEFINED: {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}}
    track(bench, target, 5.0, **metric)
    runtime = bench.client("sagemaker-runtime")

    def invoke(times: int) -> None:
        before = bench.sum_of("Invocations", EndpointName="shop", VariantName="A")
        for _ in range(times):
            runtime.invoke_endpoint(EndpointName="shop", Body=b"x", ContentType="text/plain")
        wait_until(
            lambda: (
                bench.sum_of("Invocations", EndpointName="shop", VariantName="A") >= before + times
            )
        )

    invoke(12)
    bench.pass_minutes(4)
    assert bench.ask("DescribeEndpoint", EndpointName="shop")["EndpointStatus"] == "Updating"
    assert activities(bench, target) == [("Setting desired count to 3.", "InProgress")]
    bench.settled("shop")
    assert running(bench, "shop") == (3, 3)
    invoke(3)
    bench.pass_minutes(15.5)
    assert activities(bench, target)[1] == ("Setting desired count to 3.", "Successful")
    bench.settled("shop")
    assert running(bench, "shop") == (1, 1)
    invoke(1)


def test_a_metric_of_ones_own_scales_within_its_cooldowns(bench: Bench):
    bench.endpoint("queue", {"ModelName": "model", **INSTANCES})
    target = register(bench, "endpoint/queue/variant/A", "variant:DesiredInstanceCount", 1, 3)
    custom = {"MetricName": "Queue", "Namespace": "Shop", "Statistic": "Average"}
    track(bench, target, 10.0, CustomizedMetricSpecification=custom)
    put(bench, 20.0, 3)
    bench.settled("queue")
    assert running(bench, "queue") == (2, 2)
    bench.look()
    assert activities(bench, target) == [("Setting desired count to 2.", "Successful")]
    put(bench, 20.0, 1)
    bench.settled("queue")
    assert running(bench, "queue") == (3, 3)


def test_a_users_alarm_and_a_schedule_scale_in_steps(bench: Bench):
    bench.endpoint("steps", {"ModelName": "model", **INSTANCES})
    target = register(bench, "endpoint/steps/variant/A", "variant:DesiredInstanceCount", 1, 4)
    policy = bench.ask(
        "PutScalingPolicy",
        SERVICE,
        **target,
        PolicyName="steps",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
            "Cooldown": 60,
        },
    )
    bench.ask(
        "PutMetricAlarm",
        "cloudwatch",
        AlarmName="mine",
        Namespace="Shop",
        MetricName="Errors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=[policy["PolicyARN"]],
    )
    state = {"AlarmName": "mine", "StateValue": "ALARM", "StateReason": "a test"}
    bench.ask("SetAlarmState", "cloudwatch", **state)
    history = bench.ask("DescribeAlarmHistory", "cloudwatch", AlarmName="mine")
    told = [one["HistorySummary"] for one in history["AlarmHistoryItems"]]
    assert f"Successfully executed action {policy['PolicyARN']}" in told
    bench.look()
    bench.settled("steps")
    assert running(bench, "steps") == (2, 2)
    bench.ask("DeleteAlarms", "cloudwatch", AlarmNames=["mine"])
    bench.ask(
        "PutScheduledAction",
        SERVICE,
        **target,
        ScheduledActionName="night",
        Schedule=f"at({datetime.fromtimestamp(bench.clock() + 600, UTC):%Y-%m-%dT%H:%M:%S})",
        ScalableTargetAction={"MinCapacity": 1, "MaxCapacity": 1},
    )
    bench.pass_minutes(9)
    assert running(bench, "steps") == (2, 2)
    bench.pass_minutes(2)
    bench.settled("steps")
    assert running(bench, "steps") == (1, 1)


def test_an_asynchronous_endpoint_comes_back_from_none_when_there_is_work(bench: Bench):
    s3, runtime = bench.client("s3"), bench.client("sagemaker-runtime")
    bench.endpoint(
        "later",
        {"ModelName": "model", **INSTANCES},
        AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": "s3://models/out"}},
    )
    target = register(bench, "endpoint/later/variant/A", "variant:DesiredInstanceCount", 0, 2)
    wanted = {"VariantName": "A", "DesiredInstanceCount": 0}
    bench.ask(
        "UpdateEndpointWeightsAndCapacities",
        EndpointName="later",
        DesiredWeightsAndCapacities=[wanted],
    )
    bench.settled("later")
    assert running(bench, "later") == (0, 0)
    policy = bench.ask(
        "PutScalingPolicy",
        SERVICE,
        **target,
        PolicyName="wake",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )
    bench.ask(
        "PutMetricAlarm",
        "cloudwatch",
        AlarmName="work-is-there",
        Namespace="AWS/SageMaker",
        MetricName="HasBacklogWithoutCapacity",
        Dimensions=[{"Name": "EndpointName", "Value": "later"}],
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        AlarmActions=[policy["PolicyARN"]],
    )
    s3.put_object(Bucket="models", Key="in", Body=b"x")
    answer = runtime.invoke_endpoint_async(EndpointName="later", InputLocation="s3://models/in")
    wait_until(lambda: bench.sum_of("HasBacklogWithoutCapacity", EndpointName="later") > 0, 90)
    bench.pass_minutes(1.5)
    bench.settled("later")
    assert running(bench, "later") == (1, 1)
    key = answer["OutputLocation"].removeprefix("s3://models/")
    wait_until(lambda: s3.list_objects_v2(Bucket="models", Prefix=key)["KeyCount"])


def test_copies_and_provisioned_concurrency_scale_by_their_own_dimensions(bench: Bench):
    bench.endpoint("parts", INSTANCES, ExecutionRoleArn=ROLE)
    bench.ask(
        "CreateInferenceComponent",
        InferenceComponentName="part",
        EndpointName="parts",
        Specification={
            "ModelName": "model",
            "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 256},
        },
        RuntimeConfig={"CopyCount": 1},
    )

    def copies() -> tuple[str, dict[str, int]]:
        shown = bench.ask("DescribeInferenceComponent", InferenceComponentName="part")
        return shown["InferenceComponentStatus"], shown["RuntimeConfig"]

    def has(count: int) -> bool:
        wanted = {"DesiredCopyCount": count, "CurrentCopyCount": count}
        return copies() == ("InService", wanted)

    wait_until(lambda: has(1))
    bench.endpoint(
        "cold",
        {
            "ModelName": "model",
            "ServerlessConfig": {
                "MemorySizeInMB": 1024,
                "MaxConcurrency": 4,
                "ProvisionedConcurrency": 1,
            },
        },
    )
    part = register(bench, "inference-component/part", "inference-component:DesiredCopyCount", 0, 2)
    cold = register(bench, "endpoint/cold/variant/A", "variant:DesiredProvisionedConcurrency", 1, 3)
    custom = {"MetricName": "Queue", "Namespace": "Shop", "Statistic": "Average"}
    for target in (part, cold):
        track(bench, target, 10.0, CustomizedMetricSpecification=custom)
    put(bench, 30.0, 3)
    wait_until(lambda: has(2))
    bench.settled("cold")
    assert bench.variant("cold")["CurrentServerlessConfig"]["ProvisionedConcurrency"] == 3
    put(bench, 0.0, 17)
    wait_until(lambda: has(0))
    bench.settled("cold")
    assert bench.variant("cold")["CurrentServerlessConfig"]["ProvisionedConcurrency"] == 1
