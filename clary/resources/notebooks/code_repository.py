"""A code repository is a Git repository that notebooks open."""

from clary.engine.resource import Resource
from clary.model.errors import ValidationException

code_repository = Resource(
    "CodeRepository",
    sorts=("name", False),
    missing=ValidationException("Cannot find CodeRepository {arn}"),
    taken=ValidationException("Cannot create already existing code repository: {arn}"),
)
