"""An experiment collects trials that answer one question."""

from clary.engine.resource import Resource
from clary.model.errors import ResourceNotFound, ValidationException

experiment = Resource(
    "Experiment",
    computed={
        # The name is shown where no display name was given, as SageMaker does.
        "DisplayName": lambda row: row.document.get("DisplayName") or row.name,
    },
    missing=ResourceNotFound("Experiment '{name}' does not exist."),
    taken=ValidationException("Experiment names must be unique: {arn} already exists."),
    arn_name=str.lower,
)
