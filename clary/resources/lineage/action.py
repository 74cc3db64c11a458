"""An action is something that was done, such as a deployment or a workflow step."""

from clary.engine.resource import Resource
from clary.model.errors import ResourceNotFound, ValidationException

action = Resource(
    "Action",
    missing=ResourceNotFound("Action '{name}' does not exist."),
    taken=ValidationException("Action {arn} already exists."),
)
