"""An app image configuration says how an image is run as a kernel or an app of Studio."""

from clary.engine.resource import Resource

app_image_config = Resource("AppImageConfig")
