"""A Studio lifecycle configuration is a script that runs when an app starts."""

from clary.engine.resource import Resource
from clary.model.errors import ResourceNotFound

studio_lifecycle_config = Resource(
    "StudioLifecycleConfig",
    filters={
        "AppTypeEquals": lambda call, row, app_type: (
            row.document["StudioLifecycleConfigAppType"] == app_type
        ),
    },
    missing=ResourceNotFound("StudioLifecycleConfig '{name}' does not exist."),
)
