"""Inference experiments on real endpoints: begun, watched, changed, and ended with one of the variants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import ROLE, refusal, wait_until
from tests.resources.inference.conftest import unique, variant

pytestmark = pytest.mark.xdist_group("endpoints")

SIZE = {"InstanceType": "ml.m5.large", "InstanceCount": 1}
INFRASTRUCTURE = {"InfrastructureType": "RealTimeInference", "RealTimeInferenceConfig": SIZE}


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


class Experiment:
    """One experiment with the variants Real and Shadow."""

    def __init__(self, hosting: Any, endpoint: str, **members: Any) -> None:
        self.sagemaker, self.name = hosting.sagemaker, unique("experiment")
        self.models = {"Real": hosting.model("real"), "Shadow": hosting.model("shadow")}
        self.sagemaker.create_inference_experiment(
            Name=self.name,
            Type="ShadowMode",
            RoleArn=ROLE,
            EndpointName=endpoint,
            ModelVariants=[self.variant(name) for name in self.models],
            ShadowModeConfig=self.sampling(100),
            **members,
        )

    def variant(self, name: str) -> dict[str, Any]:
        model = self.models[name]
        return {"ModelName": model, "VariantName": name, "InfrastructureConfig": INFRASTRUCTURE}

    def sampling(self, percentage: int) -> dict[str, Any]:
        shadow = {"ShadowModelVariantName": "Shadow", "SamplingPercentage": percentage}
        return {"SourceModelVariantName": "Real", "ShadowModelVariants": [shadow]}

    def shown(self) -> dict[str, Any]:
        return self.sagemaker.describe_inference_experiment(Name=self.name)

    def reaches(self, status: str) -> dict[str, Any]:
        return wait_until(lambda: (found := self.shown())["Status"] == status and found)


def captured(hosting: Any, endpoint: str) -> set[str]:
    """The variants of which something was captured."""
    found = hosting.s3.list_objects_v2(Bucket=hosting.bucket, Prefix=f"compared/{endpoint}/")
    return {one["Key"].split("/")[2] for one in found.get("Contents", [])}


def test_an_experiment_makes_its_endpoint_and_promotes_the_shadow(hosting):
    name = unique("endpoint")
    made = Experiment(
        hosting,
        name,
        Schedule={"StartTime": in_seconds(3600), "EndTime": in_seconds(7200)},
        DataStorageConfig={"Destination": f"s3://{hosting.bucket}/compared"},
    )
    assert made.reaches("Created")["EndpointMetadata"] == {"EndpointName": name}
    made.sagemaker.start_inference_experiment(Name=made.name)
    with pytest.raises(ClientError) as caught:
        made.sagemaker.delete_inference_experiment(Name=made.name)
    assert refusal(caught)[0] == "ConflictException"
    found = made.reaches("Running")
    hosting.endpoints.append(name)
    assert found["EndpointMetadata"]["EndpointStatus"] == "InService"
    assert {one["VariantName"]: one["Status"] for one in found["ModelVariants"]} == {
        "Real": "InService",
        "Shadow": "InService",
    }
    assert hosting.invoke(name) == "real(x)"
    wait_until(lambda: captured(hosting, name) == {"Real", "Shadow"}, 30)
    for actions, words in (
        ({"Real": "Remove", "Shadow": "Remove"}, "exactly one production variant"),
        ({"Real": "Promote"}, "only a shadow is promoted"),
        ({"Nobody": "Retain"}, "no variant Nobody"),
    ):
        with pytest.raises(ClientError, match=words):
            made.sagemaker.stop_inference_experiment(Name=made.name, ModelVariantActions=actions)
    made.sagemaker.stop_inference_experiment(
        Name=made.name,
        ModelVariantActions={"Real": "Remove", "Shadow": "Promote"},
        DesiredState="Completed",
        Reason="it is better",
    )
    found = made.reaches("Completed")
    assert found["StatusReason"] == "it is better" and found["CompletionTime"]
    assert {one["VariantName"]: one["Status"] for one in found["ModelVariants"]} == {
        "Real": "Deleted",
        "Shadow": "InService",
    }
    shown = hosting.described(name)
    assert [one["VariantName"] for one in shown["ProductionVariants"]] == ["Shadow"]
    assert "ShadowProductionVariants" not in shown and "DataCaptureConfig" not in shown
    assert hosting.invoke(name) == "shadow(x)"
    made.sagemaker.delete_inference_experiment(Name=made.name)
    with pytest.raises(ClientError) as caught:
        made.shown()
    assert refusal(caught)[0] == "ResourceNotFound"


def test_an_experiment_on_an_endpoint_changes_and_ends_by_its_schedule(hosting):
    name = hosting.endpoint(hosting.config(variant(hosting.model("before"), "Real")))
    made = Experiment(hosting, name)
    found = made.reaches("Running")
    assert found["Schedule"]["EndTime"] - found["Schedule"]["StartTime"] == timedelta(days=7)
    made.sagemaker.update_inference_experiment(
        Name=made.name,
        ModelVariants=[made.variant("Shadow")],
        ShadowModeConfig=made.sampling(50),
        Description="half",
    )
    with pytest.raises(ClientError, match="while its status is Updating"):
        made.sagemaker.update_inference_experiment(Name=made.name, Description="more")
    assert made.reaches("Running")["Description"] == "half"
    (shadow,) = hosting.described(name)["ShadowProductionVariants"]
    assert shadow["CurrentWeight"] == 0.5
    made.sagemaker.update_inference_experiment(Name=made.name, Schedule={"EndTime": in_seconds(2)})
    assert "schedule" in made.reaches("Completed")["StatusReason"]
    assert "ShadowProductionVariants" not in hosting.described(name)
    assert hosting.invoke(name) == "real(x)"


def test_an_experiment_whose_endpoint_cannot_be_made_is_cancelled_and_says_why(hosting):
    made = Experiment(hosting, unique("endpoint"), Schedule={"StartTime": in_seconds(3600)})
    made.reaches("Created")
    hosting.sagemaker.delete_model(ModelName=made.models["Shadow"])
    made.sagemaker.start_inference_experiment(Name=made.name)
    assert "Could not find model" in made.reaches("Cancelled")["StatusReason"]
    listed = made.sagemaker.list_inference_experiments(NameContains=made.name)
    assert [one["Status"] for one in listed["InferenceExperiments"]] == ["Cancelled"]
