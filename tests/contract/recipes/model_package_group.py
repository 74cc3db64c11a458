"""ModelPackageGroup: all groups are of this account."""

from tests.contract.recipe import Recipe

recipe = Recipe(
    "ModelPackageGroup",
    filters={"CrossAccountFilterOption": lambda shown, ask: "SameAccount"},
)
