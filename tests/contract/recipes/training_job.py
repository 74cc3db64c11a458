"""TrainingJob: of an image rather than an algorithm, with inputs that are there."""

from tests.contract.inputs import IMAGE
from tests.contract.recipe import Recipe

recipe = Recipe(
    "TrainingJob",
    values={
        "AlgorithmSpecification.TrainingImage": IMAGE,
        "ResourceConfig.InstanceType": "ml.m5.large",
        "ResourceConfig.InstanceCount": 2,
        "StoppingCondition.MaxRuntimeInSeconds": 600,
        "StoppingCondition.MaxWaitTimeInSeconds": 900,
    },
    without={
        "CreateTrainingJob": (
            "AlgorithmSpecification.AlgorithmName",
            "ResourceConfig.InstanceGroups",
            "InputDataConfig.DataSource.FileSystemDataSource",
            "InputDataConfig.DataSource.DatasetSource",
            "InputDataConfig.DataSource.S3DataSource.AttributeNames",
            "InputDataConfig.DataSource.S3DataSource.InstanceGroupNames",
            "AlgorithmSpecification.TrainingImageConfig",
            "ResourceConfig.KeepAlivePeriodInSeconds",
            "MlflowConfig",
            "ModelPackageConfig",
            "ServerlessJobConfig",
            "SessionChainingConfig",
        )
    },
    inputs={
        "CreateTrainingJob": {
            "InputDataConfig.DataSource.S3DataSource.S3DataType": "S3Prefix",
            "InputDataConfig.InputMode": "Pipe",
            "TensorBoardOutputConfig.LocalPath": "/opt/ml/output/tensorboard",
            "DebugHookConfig.LocalPath": "/opt/ml/output/tensors",
            "ProfilerConfig.ProfilingIntervalInMilliseconds": 500,
        }
    },
    elsewhere={
        "UpdateTrainingJob": "tests/resources/training/test_warm_pool.py",
        "ListTrainingJobs.WarmPoolStatusEquals": "tests/resources/training/test_warm_pool.py",
        "ListTrainingJobs.TrainingPlanArnEquals": "no job runs by a training plan",
    },
)
