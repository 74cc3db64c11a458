"""What a configuration of an endpoint or a model cannot be is told when it is made, not when it is deployed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.journeys.conftest import SKLEARN
from tests.resources.inference.conftest import refusal, unique, variant

pytestmark = pytest.mark.xdist_group("endpoints")


@pytest.fixture
def models(hosting) -> dict[str, str]:
    """Models by what they are; none of them is ever deployed."""
    plain = {"Image": SKLEARN}
    several = {"Image": SKLEARN, "Mode": "MultiModel", "ModelDataUrl": "s3://models/all/"}
    return {
        "plain": hosting.model("", PrimaryContainer=plain),
        "chain": hosting.model("", Containers=[plain, plain]),
        "several": hosting.model("", PrimaryContainer=several),
        "isolated": hosting.model("", PrimaryContainer=plain, EnableNetworkIsolation=True),
    }


def serverless(model: str, name: str = "A", **changes: Any) -> dict[str, Any]:
    settings = {"MemorySizeInMB": 1024, "MaxConcurrency": 4, **changes}
    return {"VariantName": name, "ModelName": model, "ServerlessConfig": settings}


def test_a_serverless_variant_has_the_sizes_and_the_model_that_it_can_have(hosting, models):
    plain = models["plain"]
    for variants, words in (
        ([serverless(plain, MemorySizeInMB=1500)], "must be one of 1024, 2048, 3072, 4096, 5120"),
        ([serverless(plain, ProvisionedConcurrency=5)], "not be greater than its MaxConcurrency"),
        ([serverless(plain), serverless(plain, "B")], "several production variants"),
        ([serverless(plain), variant(plain, "B")], "several production variants"),
        ([serverless(models["chain"])], "several containers or models"),
        ([serverless(models["several"])], "several containers or models"),
        ([serverless(models["isolated"])], "network isolation"),
    ):
        code, told = refusal(
            hosting.sagemaker.create_endpoint_config,
            EndpointConfigName=unique("config"),
            ProductionVariants=variants,
        )
        assert code == "ValidationException" and words in told
    assert hosting.config(serverless(plain, MemorySizeInMB=6144, ProvisionedConcurrency=4))


def test_one_shadow_on_instances_stands_beside_one_variant(hosting, models):
    model = models["plain"]
    one, shadow = variant(model), variant(model, "S")
    alone = "exactly one production variant and one shadow"
    for variants, shadows, words in (
        ([one], [shadow, variant(model, "T")], alone),
        ([one, variant(model, "B")], [shadow], alone),
        ([one], [serverless(model, "S")], "cannot be serverless"),
        ([one], [variant("nobody", "S")], "Could not find model"),
    ):
        code, told = refusal(
            hosting.sagemaker.create_endpoint_config,
            EndpointConfigName=unique("config"),
            ProductionVariants=variants,
            ShadowProductionVariants=shadows,
        )
        assert code == "ValidationException" and words in told
    assert hosting.config(one, ShadowProductionVariants=[shadow])


def test_containers_that_are_invoked_by_name_have_one(hosting):
    direct = {"InferenceExecutionConfig": {"Mode": "Direct"}}
    named = [{"Image": SKLEARN, "ContainerHostname": one} for one in ("a", "b")]
    for containers in (
        {"Containers": [named[0], {"Image": SKLEARN}]},
        {"PrimaryContainer": {"Image": SKLEARN}},
    ):
        create = hosting.sagemaker.create_model
        code, told = refusal(create, ModelName=unique("model"), **containers, **direct)
        assert code == "ValidationException"
        assert "needs a ContainerHostname, by which it is invoked" in told
    assert hosting.model("", Containers=named, **direct)
