"""Endpoint: of an image that Clary does not know, so that it fails at once and can be deleted."""

from typing import Any

from tests.contract.asking import Asker
from tests.contract.inputs import ROLE
from tests.contract.recipe import Recipe

NAME = "config-of-endpoint"
UNKNOWN = "123456789012.dkr.ecr.us-east-1.amazonaws.com/nobody-knows-this:1"


def a_config(ask: Asker) -> dict[str, Any]:
    ask.ask(
        "CreateModel", ModelName=NAME, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": UNKNOWN}
    )
    variant = {"VariantName": "main", "ModelName": NAME, "InstanceType": "ml.m5.large"}
    variant |= {"InitialInstanceCount": 1}
    ask.ask("CreateEndpointConfig", EndpointConfigName=NAME, ProductionVariants=[variant])
    return {"EndpointConfigName": NAME}


recipe = Recipe(
    "Endpoint",
    before=a_config,
    without={"CreateEndpoint": ("DeploymentConfig",)},
    settles="Failed",
    elsewhere={
        "UpdateEndpoint": "tests/journeys: only an endpoint in service can be updated",
    },
)
