"""Running an algorithm's training as the container's `train` command would."""

from __future__ import annotations

import os
import sys
import traceback

from clary.workloads.algorithms import channels, job
from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.errors import UserError, reason_of


def run(algorithm: Algorithm) -> int:
    """Train and return the exit code; on failure the reason is in /opt/ml/output/failure."""
    place = job.folders()
    try:
        algorithm.train(_job(algorithm, place))
    except UserError as problem:
        job.log(f"Error for Training: {problem}", "ERROR")
        cause = problem.__cause__
        if cause is not None and str(cause) not in str(problem):
            # What a library said at length, as the places in its own code.
            job.log(f"{type(cause).__name__}: {cause}", "ERROR")
        job.report_failure(place, reason_of(problem))
        return 1
    except Exception as problem:  # noqa: BLE001 - the platform must learn of every failure
        traceback.print_exc()
        sys.stderr.flush()
        job.report_failure(place, reason_of(problem))
        return 1
    return 0


def _job(algorithm: Algorithm, place: job.Folders) -> job.Job:
    resources = place.read("resourceconfig")
    hosts = tuple(str(host) for host in resources.get("hosts") or ("algo-1",))
    return job.Job(
        folders=place,
        hyperparameters=algorithm.hyperparameters.validate(place.read("hyperparameters")),
        channels=channels.validate(algorithm.channels, place.read("inputdataconfig"), place.data),
        hosts=hosts,
        host=str(resources.get("current_host") or hosts[0]),
        checkpoints=job.checkpoint_folder(place),
        environment=dict(os.environ),
    )
