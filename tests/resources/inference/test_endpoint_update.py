"""Updates of real endpoints: under load, with policies, and back when an alarm goes off."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import wait_until
from tests.resources.inference.conftest import Load, unique, variant

pytestmark = pytest.mark.xdist_group("endpoints")


def shifting(kind: str, wait: int, **members):
    traffic = {"Type": kind, "WaitIntervalInSeconds": wait, **members}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": traffic}}


def hosts_left(server, keys: str) -> list[Path]:
    """The folders of an endpoint's hosts; one goes when its host has ended."""
    newest = max(server.home.glob("work/*"), key=lambda path: int(path.name))
    return list(newest.glob(f"g1/{keys}"))


def percent(value: int):
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def test_no_request_fails_while_an_endpoint_moves_to_another_model(hosting, server):
    first, second = hosting.model("old"), hosting.model("new")
    name = hosting.endpoint(hosting.config(variant(first, count=2)))
    config = hosting.config(variant(second, count=2))
    with Load(hosting, name) as load:
        wait_until(lambda: load.said.get("old(x)", 0) > 50)
        hosting.sagemaker.update_endpoint(
            EndpointName=name,
            EndpointConfigName=config,
            DeploymentConfig=shifting("CANARY", 2, CanarySize=percent(50)),
        )
        pending = wait_until(lambda: hosting.described(name).get("PendingDeploymentSummary"))
        assert pending["EndpointConfigName"] == config
        with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
            hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
        both = wait_until(lambda: load.said.get("new(x)", 0) > 20 and dict(load.said))
        after = hosting.in_service(name)
        count = load.said["new(x)"]
        wait_until(lambda: load.said["new(x)"] > count + 200)
        wait_until(lambda: not hosts_left(server, "A-r1-*"))
    assert load.failures == []
    assert both["old(x)"] > 50
    assert after["EndpointConfigName"] == config and "PendingDeploymentSummary" not in after
    assert after["LastDeploymentConfig"]["BlueGreenUpdatePolicy"]
    assert after["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert hosting.invoke(name) == "new(x)"


def test_no_request_fails_while_instances_are_replaced_in_batches_and_scaled(hosting, server):
    name = hosting.endpoint(hosting.config(variant(hosting.model("old"), count=2)))
    size = {"Type": "INSTANCE_COUNT", "Value": 1}
    with Load(hosting, name) as load:
        hosting.sagemaker.update_endpoint(
            EndpointName=name,
            EndpointConfigName=hosting.config(variant(hosting.model("new"), count=2)),
            DeploymentConfig={
                "RollingUpdatePolicy": {"MaximumBatchSize": size, "WaitIntervalInSeconds": 1}
            },
        )
        hosting.in_service(name)
        hosting.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name,
            DesiredWeightsAndCapacities=[{"VariantName": "A", "DesiredInstanceCount": 1}],
        )
        found = hosting.in_service(name)
        count = load.said["new(x)"]
        wait_until(lambda: load.said["new(x)"] > count + 200)
        wait_until(lambda: not hosts_left(server, "A-r2-i1"))
    assert load.failures == []
    assert found["ProductionVariants"][0]["DesiredInstanceCount"] == 1
    assert hosting.invoke(name) == "new(x)"


def test_an_alarm_sends_the_traffic_back_and_is_told(hosting, client):
    cloudwatch, alarm = client("cloudwatch"), unique("errors")
    cloudwatch.put_metric_alarm(
        AlarmName=alarm,
        Namespace="Tests",
        MetricName=alarm,
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold",
    )
    name = hosting.endpoint(hosting.config(variant(hosting.model("old"))))
    update = {
        "EndpointName": name,
        "EndpointConfigName": hosting.config(variant(hosting.model("new"))),
        "DeploymentConfig": {
            **shifting("ALL_AT_ONCE", 300),
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm}]},
        },
    }
    hosting.sagemaker.update_endpoint(**update)
    wait_until(lambda: hosting.invoke(name) == "new(x)")
    baking = hosting.described(name)["PendingDeploymentSummary"]["ProductionVariants"][0]
    assert [one["Status"] for one in baking["VariantStatus"]] == ["Baking"]
    cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="a test")
    found = hosting.in_service(name)
    assert found["EndpointConfigName"] != update["EndpointConfigName"]
    assert alarm in found["FailureReason"]
    assert hosting.invoke(name) == "old(x)"
    cloudwatch.delete_alarms(AlarmNames=[alarm])
    with pytest.raises(ClientError, match="Could not find the CloudWatch alarms"):
        hosting.sagemaker.update_endpoint(**update)


INSTANCE = {"Type": "INSTANCE_COUNT", "Value": 1}
POLICIES = {
    "all at once": shifting("ALL_AT_ONCE", 0),
    "canary": shifting("CANARY", 0, CanarySize=INSTANCE),
    "linear": shifting("LINEAR", 0, LinearStepSize=INSTANCE),
    "rolling": {"RollingUpdatePolicy": {"MaximumBatchSize": INSTANCE, "WaitIntervalInSeconds": 0}},
}


def baking(policy: dict) -> dict:
    """The policy, waiting five minutes after each step."""
    if "RollingUpdatePolicy" in policy:
        return {
            "RollingUpdatePolicy": {**policy["RollingUpdatePolicy"], "WaitIntervalInSeconds": 300}
        }
    traffic = policy["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    return shifting(**{**_named(traffic), "wait": 300})


def _named(traffic: dict) -> dict:
    members = {
        key: one for key, one in traffic.items() if key not in ("Type", "WaitIntervalInSeconds")
    }
    return {"kind": traffic["Type"], **members}


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_moves_there_and_back_without_a_failure(hosting, client, policy):
    cloudwatch, alarm = client("cloudwatch"), unique("errors")
    cloudwatch.put_metric_alarm(
        AlarmName=alarm,
        Namespace="Tests",
        MetricName=alarm,
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold",
    )
    old, new = hosting.model("old"), hosting.model("new")
    first = hosting.config(variant(old, count=2))
    second = hosting.config(variant(new, count=2))
    name = hosting.endpoint(first)
    rollback = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm}]}}
    with Load(hosting, name, threads=2) as load:
        hosting.sagemaker.update_endpoint(
            EndpointName=name,
            EndpointConfigName=second,
            DeploymentConfig={**baking(POLICIES[policy]), **rollback},
        )
        wait_until(lambda: load.said.get("new(x)", 0) > 5)
        cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="a test")
        found = hosting.in_service(name)
        assert found["EndpointConfigName"] == first and alarm in found["FailureReason"]
        count = load.said["old(x)"]
        wait_until(lambda: load.said["old(x)"] > count + 20)
        hosting.sagemaker.update_endpoint(
            EndpointName=name, EndpointConfigName=second, DeploymentConfig=POLICIES[policy]
        )
        assert hosting.in_service(name)["EndpointConfigName"] == second
        count = load.said["new(x)"]
        wait_until(lambda: load.said["new(x)"] > count + 20)
    assert load.failures == []
    assert hosting.invoke(name) == "new(x)"
    cloudwatch.delete_alarms(AlarmNames=[alarm])


def test_weights_and_counts_stay_if_they_are_retained(hosting):
    first, second = hosting.model("one"), hosting.model("two")
    name = hosting.endpoint(hosting.config(variant(first, "A"), variant(second, "B")))
    hosting.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[
            {"VariantName": "A", "DesiredWeight": 3.0, "DesiredInstanceCount": 2}
        ],
    )
    hosting.in_service(name)
    hosting.sagemaker.update_endpoint(
        EndpointName=name,
        EndpointConfigName=hosting.config(variant(second, "A"), variant(first, "B")),
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredWeight"}],
    )
    shown = hosting.in_service(name)["ProductionVariants"]
    assert [(one["CurrentInstanceCount"], one["CurrentWeight"]) for one in shown] == [
        (2, 1.0),
        (1, 1.0),
    ]
    assert hosting.invoke(name, TargetVariant="A") == "two(x)"
