"""InferenceComponent: of an image that Clary does not know, so that it fails at once and can be deleted."""

from typing import Any

from tests.contract.asking import Asker
from tests.contract.inputs import ROLE
from tests.contract.recipe import Recipe

NAME = "for-components"
UNKNOWN = "123456789012.dkr.ecr.us-east-1.amazonaws.com/nobody-knows-this:1"


def an_endpoint(ask: Asker) -> dict[str, Any]:
    container = {"Image": UNKNOWN}
    ask.ask("CreateModel", ModelName=NAME, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {"VariantName": "main", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    ask.ask(
        "CreateEndpointConfig",
        EndpointConfigName=NAME,
        ExecutionRoleArn=ROLE,
        ProductionVariants=[variant],
    )
    ask.ask("CreateEndpoint", EndpointName=NAME, EndpointConfigName=NAME)
    ask.wait(
        lambda: ask.ask("DescribeEndpoint", EndpointName=NAME)["EndpointStatus"] == "InService"
    )
    return {"EndpointName": NAME, "VariantName": "main", "Specification.ModelName": NAME}


recipe = Recipe(
    "InferenceComponent",
    before=an_endpoint,
    without={
        "CreateInferenceComponent": (
            # Told otherwise than given: as DesiredCopyCount.
            "RuntimeConfig",
            "Specifications",
            "Specification.Container",
            "Specification.BaseInferenceComponentName",
        ),
    },
    settles="Failed",
    elsewhere={
        "UpdateInferenceComponent": (
            "tests/resources/inference: only a component in service can be updated"
        ),
    },
)
