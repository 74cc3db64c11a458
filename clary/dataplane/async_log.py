"""Asynchronous invocations in the log of their endpoint: one line each, found by its inference id."""

from __future__ import annotations

import time

from clary.dataplane.async_requests import AsyncRequest
from clary.dataplane.async_runs import Outcome
from clary.dataplane.capture import Journal
from clary.dataplane.routes import EndpointRoute, Instance, Variant

# "[production-variant-name]/[instance-id]/data-log" (developer guide, logs of endpoints).
STREAM = "data-log"
NO_INSTANCE = "none"  # of requests that expired before an instance was free
UNITS = {"Microseconds": "us", "Milliseconds": "ms"}


def tell(
    journal: Journal | None,
    route: EndpointRoute,
    variant: Variant,
    instance: Instance | None,
    request: AsyncRequest,
    outcome: Outcome,
) -> None:
    """Write how a request ended, under its inference id and the request id of its 202."""
    if journal is None:
        return
    place = (instance.log_id or instance.id) if instance is not None else NO_INSTANCE
    said = " ".join(outcome.problem.splitlines()) if outcome.problem else _succeeded(outcome)
    failure = f" See {request.failure} for all of it." if outcome.problem else ""
    line = (
        f"{_stamp()}:[sagemaker logs] [{request.inference_id}] {said}{failure} "
        f"RequestId: {request.id}"
    )
    journal.write(route, f"{variant.name}/{place}/{STREAM}", line)


def _succeeded(outcome: Outcome) -> str:
    times = [
        f"{name}: {value:.0f} {UNITS[unit]}"
        for name, unit, value in outcome.metrics
        if unit in UNITS
    ]
    return f"Inference request succeeded. {', '.join(times)}."


def _stamp() -> str:
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03d}"
