"""InferenceExperiment: one that is to begin in many years, so that it stays Created."""

from datetime import UTC, datetime
from typing import Any

from tests.contract.asking import Asker
from tests.contract.inputs import IMAGE, ROLE
from tests.contract.recipe import Recipe

NAME = "of-experiments"
SIZE = {"InstanceType": "ml.m5.large", "InstanceCount": 1}
INFRASTRUCTURE = {"InfrastructureType": "RealTimeInference", "RealTimeInferenceConfig": SIZE}


def a_model(ask: Asker) -> dict[str, Any]:
    ask.ask("CreateModel", ModelName=NAME, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})
    return {}


recipe = Recipe(
    "InferenceExperiment",
    before=a_model,
    values={
        "Schedule.StartTime": datetime(2096, 5, 1, tzinfo=UTC),
        "Schedule.EndTime": datetime(2096, 6, 1, tzinfo=UTC),
        "EndpointName": "no-endpoint-yet",
        "ModelVariants": [
            {"ModelName": NAME, "VariantName": name, "InfrastructureConfig": INFRASTRUCTURE}
            for name in ("main", "other")
        ],
        "ShadowModeConfig.SourceModelVariantName": "main",
        "ShadowModeConfig.ShadowModelVariants.ShadowModelVariantName": "other",
        "DataStorageConfig.Destination": "s3://contract/captured",
        "ModelVariantActions": {"main": "Retain", "other": "Remove"},
    },
    inputs={"StopInferenceExperiment": {"DesiredModelVariants": []}},
    settles="Created",
    elsewhere={
        "ListInferenceExperiments": "tests/resources/inference: its items have no ARN",
        "StopInferenceExperiment": "tests/resources/inference: it needs an action for a variant",
    },
)
