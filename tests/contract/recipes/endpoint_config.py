"""EndpointConfig: its variants name a model and either instances or serverless capacity."""

from typing import Any

from tests.contract.asking import Asker
from tests.contract.inputs import IMAGE, ROLE
from tests.contract.recipe import Recipe

MODEL = "model-of-config"


def a_model(ask: Asker) -> dict[str, Any]:
    ask.ask(
        "CreateModel", ModelName=MODEL, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE}
    )
    return {
        "ProductionVariants.VariantName": "main",
        "ProductionVariants.ModelName": MODEL,
        "ProductionVariants.InstanceType": "ml.m5.large",
        "ProductionVariants.InitialInstanceCount": 1,
        "DataCaptureConfig.CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"]},
        "DataCaptureConfig.DestinationS3Uri": "s3://captures/here",
        "AsyncInferenceConfig.OutputConfig.S3OutputPath": "s3://answers/here",
        "AsyncInferenceConfig.OutputConfig.S3FailurePath": "s3://failures/here",
    }


recipe = Recipe(
    "EndpointConfig",
    before=a_model,
    without={
        "CreateEndpointConfig": (
            "ProductionVariants.ServerlessConfig",
            # They exclude asynchronous inference; tests/resources/inference has them.
            "ExplainerConfig",
            "ShadowProductionVariants",
        )
    },
)
