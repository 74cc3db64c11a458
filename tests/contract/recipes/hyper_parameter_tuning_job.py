"""HyperParameterTuningJob: of one training job definition, with an objective that its metrics define."""

from tests.contract.inputs import IMAGE
from tests.contract.recipe import Recipe

CONFIG = "HyperParameterTuningJobConfig"
DEFINITION = "TrainingJobDefinition"
OBJECTIVE = {"Type": "Minimize", "MetricName": "loss"}
RANGES = {
    "ContinuousParameterRanges": [
        {"Name": "rate", "MinValue": "0.001", "MaxValue": "0.1", "ScalingType": "Logarithmic"}
    ],
    "IntegerParameterRanges": [{"Name": "depth", "MinValue": "1", "MaxValue": "9"}],
    "CategoricalParameterRanges": [{"Name": "kind", "Values": ["gini", "entropy"]}],
}

recipe = Recipe(
    "HyperParameterTuningJob",
    values={
        f"{CONFIG}.Strategy": "Random",
        f"{CONFIG}.HyperParameterTuningJobObjective": OBJECTIVE,
        f"{CONFIG}.ParameterRanges": RANGES,
        f"{CONFIG}.ResourceLimits.MaxNumberOfTrainingJobs": 4,
        f"{CONFIG}.ResourceLimits.MaxParallelTrainingJobs": 1,
        f"{CONFIG}.ResourceLimits.MaxRuntimeInSeconds": 600,
        DEFINITION: {
            "StaticHyperParameters": {"sagemaker_program": '"train.py"'},
            "AlgorithmSpecification": {
                "TrainingImage": IMAGE,
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(.*)"}],
            },
            "RoleArn": "arn:aws:iam::123456789012:role/ClaryExecutionRole",
            "OutputDataConfig": {"S3OutputPath": "s3://contract/out"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 1,
                "VolumeSizeInGB": 1,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        },
    },
    without={
        "CreateHyperParameterTuningJob": (
            f"{CONFIG}.StrategyConfig",
            "TrainingJobDefinitions",
            "WarmStartConfig",
        )
    },
)
