"""Algorithm: one that needs no validation by jobs of its own."""

from tests.contract.inputs import IMAGE
from tests.contract.recipe import Recipe

recipe = Recipe(
    "Algorithm",
    values={
        "TrainingSpecification.TrainingImage": IMAGE,
        "TrainingSpecification.SupportedHyperParameters.Type": "FreeText",
    },
    without={
        "CreateAlgorithm": (
            "ValidationSpecification",
            "TrainingSpecification.SupportedTuningJobObjectiveMetrics",
        )
    },
)
