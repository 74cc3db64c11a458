"""Action: lists are filtered by where the entity comes from."""

from tests.contract.recipe import Recipe

recipe = Recipe("Action", filters={"SourceUri": lambda shown, ask: shown["Source"]["SourceUri"]})
