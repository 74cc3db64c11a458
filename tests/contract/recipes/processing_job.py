"""ProcessingJob: its inputs are of S3 and its paths below /opt/ml/processing."""

from tests.contract.recipe import Recipe

recipe = Recipe(
    "ProcessingJob",
    values={
        "AppSpecification.ContainerEntrypoint": ["python3", "/opt/ml/processing/code/run.py"],
        "ProcessingResources.ClusterConfig.InstanceCount": 2,
        "ProcessingInputs.InputName": "rows",
        "ProcessingInputs.S3Input.LocalPath": "/opt/ml/processing/input",
        "ProcessingOutputConfig.Outputs.S3Output.LocalPath": "/opt/ml/processing/output",
    },
    without={"CreateProcessingJob": ("ProcessingInputs.DatasetDefinition",)},
)
