"""ProcessingJob: its inputs are of S3 and its paths below /opt/ml/processing."""

from tests.contract.recipe import Recipe

recipe = Recipe(
    "ProcessingJob",
    values={
        "AppSpecification.ContainerEntrypoint": ["python3", "/opt/ml/processing/code/run.py"],
        "ProcessingResources.ClusterConfig.InstanceCount": 2,
        "ProcessingResources.ClusterConfig.InstanceType": "ml.m5.large",
        "ProcessingInputs.InputName": "rows",
        "ProcessingInputs.S3Input.LocalPath": "/opt/ml/processing/input",
        "ProcessingOutputConfig.Outputs.S3Output.LocalPath": "/opt/ml/processing/output",
    },
    # The model requires neither, since a third way to say it was added; the service does.
    inputs={
        "CreateProcessingJob": {
            "ProcessingResources.ClusterConfig.InstanceCount": 2,
            "ProcessingResources.ClusterConfig.InstanceType": "ml.m5.large",
        }
    },
    without={"CreateProcessingJob": ("ProcessingInputs.DatasetDefinition",)},
)
