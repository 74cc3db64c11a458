"""Which model servers take several requests on one connection: those that are Clary's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.engine.call import Parts
from clary.images.image import UnknownImage

MODULE = "clary.workloads.serving.server"
WORKERS = "SAGEMAKER_MODEL_SERVER_WORKERS"


def pipelined_workers(parts: Parts, container: Mapping[str, Any]) -> int:
    """How many processes answer for a container that takes pipelined requests; 0 for any other.

    Such a server answers in the order of the requests, and predicts together what came together.
    """
    try:
        image = parts.image(container["Image"])
    except UnknownImage:
        return 0
    serve = image.commands.get("serve")
    if serve is None or MODULE not in serve.argv:
        return 0
    environment = {**image.environment_variables, **(container.get("Environment") or {})}
    text = environment.get(WORKERS) or "1"
    return max(1, min(int(text), 256)) if text.isascii() and text.isdigit() else 1
