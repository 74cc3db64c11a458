"""StudioLifecycleConfig: filtered by the app it is for, under a shorter name."""

from tests.contract.recipe import Recipe

recipe = Recipe(
    "StudioLifecycleConfig",
    filters={"AppTypeEquals": lambda shown, ask: shown["StudioLifecycleConfigAppType"]},
)
