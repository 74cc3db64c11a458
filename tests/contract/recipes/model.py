"""Model: one container or several, not both."""

from tests.contract.inputs import IMAGE
from tests.contract.recipe import Recipe

recipe = Recipe(
    "Model",
    values={"PrimaryContainer.Image": IMAGE},
    without={
        "CreateModel": (
            "Containers",
            "InferenceExecutionConfig",
            # A package names its own image.
            "PrimaryContainer.ModelPackageName",
        )
    },
)
