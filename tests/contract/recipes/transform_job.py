"""TransformJob: of a model that is there, over objects that are, within the limit of a payload."""

from typing import Any

from tests.contract.asking import Asker
from tests.contract.inputs import IMAGE, ROLE
from tests.contract.recipe import Recipe

MODEL = "model-of-transform"


def a_model(ask: Asker) -> dict[str, Any]:
    ask.ask(
        "CreateModel", ModelName=MODEL, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE}
    )
    return {"ModelName": MODEL}


recipe = Recipe(
    "TransformJob",
    before=a_model,
    values={
        "MaxPayloadInMB": 6,
        "MaxConcurrentTransforms": 2,
        "TransformInput.DataSource.S3DataSource.S3DataType": "S3Prefix",
        "TransformInput.ContentType": "text/csv",
        "TransformOutput.S3OutputPath": "s3://contract/output",
        "TransformOutput.Accept": "text/csv",
        "TransformOutput.AssembleWith": "Line",
        "TransformInput.SplitType": "Line",
        "DataProcessing.InputFilter": "$[1:]",
        "DataProcessing.OutputFilter": "$",
    },
    inputs={"CreateTransformJob": {"DataCaptureConfig.DestinationS3Uri": "s3://contract/capture"}},
)
