"""Inference components on a real endpoint: made, asked, scaled, updated under load, and deleted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import ROLE, archive, wait_until
from tests.resources.inference.conftest import Load, unique

pytestmark = pytest.mark.xdist_group("endpoints")


@pytest.fixture
def endpoint(hosting):
    variant = {"VariantName": "All", "InstanceType": "ml.m5.large", "InitialInstanceCount": 2}
    name = hosting.endpoint(hosting.config(variant, ExecutionRoleArn=ROLE))
    yield name
    # Adapters first: their base cannot go before them.
    for one in sorted(_every(hosting, name), key=lambda one: not one.startswith("adapter")):
        hosting.sagemaker.delete_inference_component(InferenceComponentName=one)
    wait_until(lambda: not _every(hosting, name))


def _every(hosting, endpoint: str) -> list[str]:
    listed = hosting.sagemaker.list_inference_components(EndpointNameEquals=endpoint)
    return [one["InferenceComponentName"] for one in listed["InferenceComponents"]]


CPUS = "NumberOfCpuCoresRequired"


def needs() -> dict:
    return {CPUS: 1, "MinMemoryRequiredInMb": 512}


def add(hosting, endpoint: str, says: str, copies: int = 1, needed: dict | None = None) -> str:
    name = unique(says)
    hosting.sagemaker.create_inference_component(
        InferenceComponentName=name,
        EndpointName=endpoint,
        VariantName="All",
        Specification={
            "ModelName": hosting.model(says),
            "ComputeResourceRequirements": needed or needs(),
        },
        RuntimeConfig={"CopyCount": copies},
    )
    settled(hosting, name)
    return name


def settled(hosting, name: str, status: str = "InService") -> dict:
    def look() -> dict | None:
        found = hosting.sagemaker.describe_inference_component(InferenceComponentName=name)
        return found if found["InferenceComponentStatus"] in ("InService", "Failed") else None

    found = wait_until(look)
    assert found["InferenceComponentStatus"] == status, found
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


def test_what_the_instances_have_no_room_for_fails_and_changes_nothing(hosting, endpoint):
    no_room, sagemaker = "There is not enough hardware resources", hosting.sagemaker
    model = hosting.model("one")
    large = unique("large")
    request = {"InferenceComponentName": large, "EndpointName": endpoint, "VariantName": "All"}
    wanted = {"ModelName": model, "ComputeResourceRequirements": {**needs(), CPUS: 64}}
    sagemaker.create_inference_component(
        **request, Specification=wanted, RuntimeConfig={"CopyCount": 1}
    )
    reason = settled(hosting, large, "Failed")["FailureReason"]
    assert reason.startswith(no_room)
    assert "needs 64 CPU cores" in reason and "2 ml.m5.large instances" in reason
    with pytest.raises(ClientError, match="with status Failed: it can only be deleted"):
        sagemaker.update_inference_component(InferenceComponentName=large, Specification=wanted)

    name = add(hosting, endpoint, "one")
    before = settled(hosting, name)["Specification"]
    for update in (
        lambda: sagemaker.update_inference_component_runtime_config(
            InferenceComponentName=name, DesiredRuntimeConfig={"CopyCount": 5}
        ),
        lambda: sagemaker.update_inference_component(
            InferenceComponentName=name, Specification=wanted
        ),
    ):
        update()
        found = settled(hosting, name)
        assert found["FailureReason"].startswith(no_room)
        assert found["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 1}
        assert found["Specification"] == before
    assert hosting.invoke(endpoint, InferenceComponentName=name) == "one(x)"

    more = {"VariantName": "All", "DesiredInstanceCount": 3}
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint, DesiredWeightsAndCapacities=[more]
    )
    wide = add(hosting, endpoint, "two", 2, {**needs(), CPUS: 2})
    assert hosting.invoke(endpoint, InferenceComponentName=wide) == "two(x)"


ADAPTED = """
import os

def model_fn(folder):
    return open(os.path.join(folder, "name.txt")).read()

def input_fn(body, content_type, context):
    return body, context.get_request_header(0, "X-Amzn-SageMaker-Adapter-Path")

def predict_fn(data, model):
    body, folder = data
    adapter = open(os.path.join(folder, "word.txt")).read() if folder else ""
    return f"{model}{adapter}"

def output_fn(said, accept):
    return said, "text/plain"
"""


def adapter(hosting, endpoint: str, base: str, says: str, **members) -> str:
    name, key = unique("adapter"), f"{unique('adapter')}.tar.gz"
    hosting.s3.put_object(Bucket=hosting.bucket, Key=key, Body=archive({"word.txt": says}))
    hosting.sagemaker.create_inference_component(
        InferenceComponentName=name,
        EndpointName=endpoint,
        Specification={
            "BaseInferenceComponentName": base,
            "Container": {"ArtifactUrl": f"s3://{hosting.bucket}/{key}"},
            **members,
        },
    )
    return name


def test_adapters_are_asked_on_the_copies_of_their_base(hosting, endpoint):
    key = f"{unique('base')}/model.tar.gz"
    packed = archive({"name.txt": "base", "code/inference.py": ADAPTED})
    hosting.s3.put_object(Bucket=hosting.bucket, Key=key, Body=packed)
    container = {**hosting.container("base"), "ModelDataUrl": f"s3://{hosting.bucket}/{key}"}
    base = unique("base")
    hosting.sagemaker.create_inference_component(
        InferenceComponentName=base,
        EndpointName=endpoint,
        Specification={
            "ModelName": hosting.model("base", PrimaryContainer=container),
            "ComputeResourceRequirements": needs(),
        },
        RuntimeConfig={"CopyCount": 2},
    )
    settled(hosting, base)
    first, second = (adapter(hosting, endpoint, base, says) for says in ("-sql", "-law"))
    for name in (first, second):
        settled(hosting, name)
    for name, said in ((first, "base-sql"), (second, "base-law"), (base, "base")):
        assert {hosting.invoke(endpoint, InferenceComponentName=name) for _ in range(6)} == {said}
    shown = hosting.sagemaker.describe_inference_component(InferenceComponentName=first)
    assert shown["Specification"]["BaseInferenceComponentName"] == base
    assert "RuntimeConfig" not in shown
    with pytest.raises(ClientError, match="Delete its adapter inference components first"):
        hosting.sagemaker.delete_inference_component(InferenceComponentName=base)
    with pytest.raises(ClientError, match="is an adapter itself"):
        adapter(hosting, endpoint, first, "-none")
    with pytest.raises(ClientError, match="ComputeResourceRequirements cannot be given"):
        adapter(hosting, endpoint, base, "-none", ComputeResourceRequirements=needs())
    with pytest.raises(ClientError, match="no copies of its own"):
        hosting.sagemaker.update_inference_component_runtime_config(
            InferenceComponentName=first, DesiredRuntimeConfig={"CopyCount": 2}
        )


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


def test_an_alarm_brings_a_component_back_to_its_model(hosting, endpoint, client):
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
    name = add(hosting, endpoint, "old")
    old = settled(hosting, name)["Specification"]["ModelName"]
    batch = {"Type": "COPY_COUNT", "Value": 1}
    hosting.sagemaker.update_inference_component(
        InferenceComponentName=name,
        Specification={"ModelName": hosting.model("new"), "ComputeResourceRequirements": needs()},
        DeploymentConfig={
            "RollingUpdatePolicy": {"MaximumBatchSize": batch, "WaitIntervalInSeconds": 300},
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm}]},
        },
    )
    wait_until(lambda: hosting.invoke(endpoint, InferenceComponentName=name) == "new(x)")
    cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="a test")
    found = settled(hosting, name)
    assert alarm in found["FailureReason"]
    assert found["Specification"]["ModelName"] == old
    assert hosting.invoke(endpoint, InferenceComponentName=name) == "old(x)"
    cloudwatch.delete_alarms(AlarmNames=[alarm])


def test_the_specification_for_the_instance_type_of_the_variant_applies(hosting, endpoint):
    def of(kind: str, says: str) -> dict:
        model = hosting.model(says)
        return {
            "InstanceType": kind,
            "ModelName": model,
            "ComputeResourceRequirements": needs(),
        }

    several = [of("ml.g5.xlarge", "large"), of("ml.m5.large", "small")]
    name = unique("several")
    request = {"InferenceComponentName": name, "EndpointName": endpoint, "VariantName": "All"}
    create = hosting.sagemaker.create_inference_component
    copies = {"RuntimeConfig": {"CopyCount": 1}}
    for given, text in (
        ({"Specifications": several, "Specification": several[0]}, "cannot be given together"),
        ({"Specifications": [several[0], several[0]]}, "must not name an InstanceType twice"),
        ({"Specifications": several[:1]}, "for instance type ml.m5.large .* are for ml.g5.xlarge"),
        ({}, "Either Specification or Specifications is required"),
    ):
        with pytest.raises(ClientError, match=text):
            create(**request, **given, **copies)
    create(**request, Specifications=several, **copies)
    shown = settled(hosting, name)
    assert [one["InstanceType"] for one in shown["Specifications"]] == [
        "ml.g5.xlarge",
        "ml.m5.large",
    ]
    assert "Specification" not in shown
    assert hosting.invoke(endpoint, InferenceComponentName=name) == "small(x)"
    one = {name: value for name, value in of("", "plain").items() if value}
    hosting.sagemaker.update_inference_component(InferenceComponentName=name, Specification=one)
    shown = settled(hosting, name)
    assert shown["Specification"]["ModelName"] == one["ModelName"]
    assert "Specifications" not in shown
    assert hosting.invoke(endpoint, InferenceComponentName=name) == "plain(x)"

    pipeline = hosting.model("", Containers=[hosting.container("a"), hosting.container("b")])
    with pytest.raises(ClientError, match="runs one container with one model") as caught:
        create(
            **{**request, "InferenceComponentName": unique("chain")},
            Specification={**one, "ModelName": pipeline},
            **copies,
        )
    assert caught.value.response["Error"]["Code"] == "ValidationException"
