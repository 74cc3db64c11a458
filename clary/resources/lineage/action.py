"""An action is something that was done, such as a deployment or a workflow step."""

from clary.engine.resource import Resource
from clary.model.errors import ResourceNotFound, ValidationException
from clary.resources.lineage.source_uri import comes_from

action = Resource(
    "Action",
    filters={"SourceUri": comes_from},
    missing=ResourceNotFound("Action '{name}' does not exist."),
    taken=ValidationException("Action {arn} already exists."),
)
