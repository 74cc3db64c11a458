"""ModelPackage: one with a name of its own; versions of a group are in tests/resources/registry."""

from tests.contract.recipe import Recipe

WHERE = "tests/resources/registry/test_model_package.py"

recipe = Recipe(
    "ModelPackage",
    without={
        "CreateModelPackage": (
            "ModelPackageGroupName",
            "ModelApprovalStatus",
            "ValidationSpecification",
            "SourceAlgorithmSpecification",
            # The same request with its token is the same package.
            "ClientToken",
        ),
    },
    filters={"ModelPackageType": lambda shown, ask: "Unversioned"},
    elsewhere={
        "UpdateModelPackage": WHERE,
        "ListModelPackages.ModelPackageGroupName": WHERE,
        "ListModelPackages.ModelApprovalStatus": WHERE,
    },
)
