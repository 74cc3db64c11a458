"""An image of Studio: the name under which versions of a container image are kept."""

from __future__ import annotations

from clary.engine.resource import Resource
from clary.model.errors import ResourceInUse, ResourceNotFound

image = Resource(
    "Image",
    # A name is all there is of an image, so it is made at once.
    computed={"ImageStatus": lambda row: "CREATED"},
    missing=ResourceNotFound("No Image with the name {name} was found."),
    taken=ResourceInUse("Image {arn} already exists."),
)
