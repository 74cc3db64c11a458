"""A context groups artifacts and actions, such as an endpoint or a model package group."""

from clary.engine.resource import Resource
from clary.model.errors import ResourceNotFound, ValidationException
from clary.resources.lineage.source_uri import comes_from

context = Resource(
    "Context",
    filters={"SourceUri": comes_from},
    missing=ResourceNotFound("Context '{name}' does not exist."),
    taken=ValidationException("Context {arn} already exists."),
)
