"""ModelExplainabilityJobDefinition: of an endpoint, by which its lists are filtered."""

from tests.contract.recipe import Recipe

recipe = Recipe(
    "ModelExplainabilityJobDefinition",
    values={"ModelExplainabilityJobInput.EndpointInput.EndpointName": "watched"},
    filters={"EndpointName": lambda shown, ask: "watched"},
)
