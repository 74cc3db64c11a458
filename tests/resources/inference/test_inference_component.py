"""Inference components on a real endpoint: made, asked, scaled, updated under load, and deleted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import ROLE, wait_until
from tests.resources.inference.conftest import Load, unique

pytestmark = pytest.mark.xdist_group("endpoints")


@pytest.fixture
def endpoint(hosting):
    variant = {"VariantName": "All", "InstanceType": "ml.m5.large", "InitialInstanceCount": 2}
    name = hosting.endpoint(hosting.config(variant, ExecutionRoleArn=ROLE))
    yield name
    for one in _every(hosting, name):
        hosting.sagemaker.delete_inference_component(InferenceComponentName=one)
    wait_until(lambda: not _every(hosting, name))


def _every(hosting, endpoint: str) -> list[str]:
    listed = hosting.sagemaker.list_inference_components(EndpointNameEquals=endpoint)
    return [one["InferenceComponentName"] for one in listed["InferenceComponents"]]


def needs() -> dict:
    return {"NumberOfCpuCoresRequired": 1, "MinMemoryRequiredInMb": 512}


def add(hosting, endpoint: str, says: str, copies: int = 1) -> str:
    name = unique(says)
    hosting.sagemaker.create_inference_component(
        InferenceComponentName=name,
        EndpointName=endpoint,
        VariantName="All",
        Specification={"ModelName": hosting.model(says), "ComputeResourceRequirements": needs()},
        RuntimeConfig={"CopyCount": copies},
    )
    settled(hosting, name)
    return name


def settled(hosting, name: str) -> dict:
    def look() -> dict | None:
        found = hosting.sagemaker.describe_inference_component(InferenceComponentName=name)
        return found if found["InferenceComponentStatus"] in ("InService", "Failed") else None

    found = wait_until(look)
    assert found["InferenceComponentStatus"] == "InService", found
    return found


def test_components_of_one_endpoint_answer_by_their_names(hosting, endpoint):
    first, second = add(hosting, endpoint, "one"), add(hosting, endpoint, "two", 2)
    assert hosting.invoke(endpoint, InferenceComponentName=first) == "one(x)"
    assert hosting.invoke(endpoint, InferenceComponentName=second) == "two(x)"
    found = settled(hosting, second)
    assert found["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 2}
    assert found["EndpointArn"] == hosting.described(endpoint)["EndpointArn"]
    shown = hosting.described(endpoint)["ProductionVariants"][0]
    assert (shown["CurrentInstanceCount"], shown["DesiredInstanceCount"]) == (2, 2)
    with pytest.raises(ClientError, match="Inference Component Name header is required"):
        hosting.invoke(endpoint)
    with pytest.raises(ClientError, match="nobody not found on endpoint"):
        hosting.invoke(endpoint, InferenceComponentName="nobody")
    with pytest.raises(ClientError, match="Delete its inference components first"):
        hosting.sagemaker.delete_endpoint(EndpointName=endpoint)


def test_copies_come_and_go_and_none_means_no_capacity(hosting, endpoint):
    name = add(hosting, endpoint, "one")
    for copies in (0, 2):
        hosting.sagemaker.update_inference_component_runtime_config(
            InferenceComponentName=name, DesiredRuntimeConfig={"CopyCount": copies}
        )
        assert settled(hosting, name)["RuntimeConfig"]["DesiredCopyCount"] == copies
        if not copies:
            with pytest.raises(ClientError, match="has no capacity to process this request"):
                hosting.invoke(endpoint, InferenceComponentName=name)
    assert hosting.invoke(endpoint, InferenceComponentName=name) == "one(x)"


def test_no_request_fails_while_a_component_moves_to_another_model(hosting, endpoint):
    name = add(hosting, endpoint, "old", 2)
    named = replace(hosting, endpoints=[])
    invoke = named.invoke
    named.invoke = lambda endpoint: invoke(endpoint, InferenceComponentName=name)
    with Load(named, endpoint) as load:
        wait_until(lambda: load.said.get("old(x)", 0) > 20)
        batch = {"Type": "COPY_COUNT", "Value": 1}
        policy = {"RollingUpdatePolicy": {"MaximumBatchSize": batch, "WaitIntervalInSeconds": 1}}
        hosting.sagemaker.update_inference_component(
            InferenceComponentName=name,
            Specification={
                "ModelName": hosting.model("new"),
                "ComputeResourceRequirements": needs(),
            },
            DeploymentConfig=policy,
        )
        settled(hosting, name)
        count = load.said["new(x)"]
        wait_until(lambda: load.said["new(x)"] > count + 100)
    assert load.failures == []
    assert hosting.invoke(endpoint, InferenceComponentName=name) == "new(x)"
