"""Context: lists are filtered by where the entity comes from."""

from tests.contract.recipe import Recipe

recipe = Recipe("Context", filters={"SourceUri": lambda shown, ask: shown["Source"]["SourceUri"]})
