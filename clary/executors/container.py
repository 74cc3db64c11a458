"""What an executor owes to hosts that ran a container: none of them outlives what is known of it.

A container is a kind of program to the sandbox executor: the runner stages, ships and judges as for any
other, and the keeper of its container removes it, unless the keeper itself was killed.
"""

from __future__ import annotations

import logging
from pathlib import Path

from clary.runner import container_program
from clary.runner.container_recipe import MARKER
from clary.runner.engine_api import EngineError

log = logging.getLogger(__name__)


def remove_left(directory: Path) -> None:
    """End and remove the container that a host may have left; raise RuntimeError where one may still run."""
    marker = directory / MARKER
    if not marker.exists():
        return
    try:
        container_program.remove_left(str(marker))
    except EngineError as problem:
        if problem.status:
            raise RuntimeError(
                f"the container of {directory} is not removed: {problem}"
            ) from problem
        # Containers end with an engine that is gone; one that keeps them tells whose they are by labels.
        log.warning("the container of %s may be left in its engine: %s", directory, problem)
    except (OSError, ValueError, KeyError) as problem:
        log.warning("%s names no container: %s", marker, problem)
