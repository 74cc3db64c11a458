"""A notebook instance lifecycle configuration holds the scripts that run when a notebook is made and started."""

from clary.engine.resource import Resource
from clary.model.errors import ValidationException

notebook_instance_lifecycle_config = Resource(
    "NotebookInstanceLifecycleConfig",
    missing=ValidationException(
        "Unable to describe Notebook Instance Lifecycle Config '{arn}'. "
        "(Details: Notebook Instance Lifecycle Config does not exist.)"
    ),
    taken=ValidationException(
        "Unable to create Notebook Instance Lifecycle Config '{arn}'. "
        "(Details: Notebook Instance Lifecycle Config already exists.)"
    ),
)
