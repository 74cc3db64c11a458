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
        )
    },
    elsewhere={
        "ListTrainingJobs.WarmPoolStatusEquals": "no job keeps a warm pool",
        "ListTrainingJobs.TrainingPlanArnEquals": "no job runs by a training plan",
    },
)
