"""A hub holds models and notebooks that its readers can deploy."""

from clary.engine.resource import Resource
from clary.model.errors import ResourceNotFound

hub = Resource(
    "Hub",
    computed={"HubStatus": lambda row: "InService"},
    missing=ResourceNotFound("Hub '{name}' does not exist."),
)
