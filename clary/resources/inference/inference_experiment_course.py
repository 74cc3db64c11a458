"""The course of inference experiments: by the clock, their endpoint is given one configuration after another.

    wanted   the configuration that the endpoint is to have, and whether it was asked for; absent until it is made
    capture  the DataCaptureConfig that the endpoint had before
An endpoint belongs to its user, who may update or delete it at any time: each look starts from what is there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from clary.engine.call import Parts
from clary.engine.verbs import transition
from clary.identity.principals import service_principal
from clary.model.errors import ApiError
from clary.resources.inference.inference_experiment import KIND
from clary.resources.inference.inference_experiment_variants import (
    default_actions,
    running_config,
    stopped_config,
)
from clary.store.rows import Query, Row, RowChanged

log = logging.getLogger(__name__)

ENDED = ("Completed", "Cancelled")
CHANGING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
REASON_CHARACTERS_MAX = 1024
_PAGE = 200


def watch_experiments(parts: Parts, now: float) -> int:
    """Look at every experiment that has not ended; return how many have moved on."""
    moved = 0
    for row in _open(parts):
        before = row.status
        try:
            _look(parts, row, now)
        except RowChanged:
            continue  # its user changed it just now: the next look sees what he wants
        moved += row.status != before
    return moved


def _look(parts: Parts, row: Row, now: float) -> None:
    schedule = row.document["Schedule"]
    match row.status:
        case "Creating":
            _become(parts, row, "Created")
        case "Created":
            if now >= schedule["StartTime"]:
                _become(parts, row, "Starting")
        case "Running":
            if now >= schedule["EndTime"]:
                row.state |= {"actions": default_actions(row.document), "wanted": None}
                row.state["desired"] = "Completed"
                row.document["StatusReason"] = "The experiment ended by its schedule."
                _become(parts, row, "Stopping")
        case _:
            _deploy(parts, row, now)


def _deploy(parts: Parts, row: Row, now: float) -> None:
    """Ask for the configuration of this status once, and see whether the endpoint took it."""
    endpoint = _endpoint(parts, row)
    if endpoint is None and row.status != "Starting":
        return _fail(parts, row, f"The endpoint {row.document['EndpointName']} is gone.", now)
    if endpoint is not None and endpoint.status in CHANGING:
        return None
    if endpoint is not None and endpoint.status != "InService":
        reason = endpoint.document.get("FailureReason") or ""
        return _fail(parts, row, f"The endpoint is {endpoint.status}. {reason}", now)
    wanted: dict[str, Any] | None = row.state.get("wanted")
    if not wanted:
        row.state["wanted"] = _numbered(row)
        if row.status == "Starting":
            row.state["capture"] = _capture_of(endpoint)
        parts.store.rows.update(row, touch=False)
        wanted = row.state["wanted"]
    if _has(endpoint, wanted["config"]):
        return _succeed(parts, row, now)
    if wanted["asked"]:
        reason = endpoint.document.get("FailureReason") if endpoint is not None else ""
        text = reason or "The endpoint was updated or deleted by another request."
        return _fail(parts, row, text, now)
    return _ask(parts, row, endpoint, now)


def _ask(parts: Parts, row: Row, endpoint: Row | None, now: float) -> None:
    config = (
        stopped_config(row)
        if row.status == "Stopping"
        else running_config(row.document, row.state.get("capture"))
    )
    if config is None:
        return _succeed(parts, row, now)
    name = row.state["wanted"]["config"]
    names = {"EndpointName": row.document["EndpointName"], "EndpointConfigName": name}
    try:
        known = parts.store.rows.get("EndpointConfig", name, account=row.account, region=row.region)
        if known is None:
            _call(parts, row, "CreateEndpointConfig", {"EndpointConfigName": name, **config})
        _call(parts, row, "UpdateEndpoint" if endpoint is not None else "CreateEndpoint", names)
    except ApiError as problem:
        return _fail(parts, row, problem.message, now)
    row.state["wanted"] = {**row.state["wanted"], "asked": True}
    parts.store.rows.update(row, touch=False)
    return None


def _succeed(parts: Parts, row: Row, now: float) -> None:
    row.state["wanted"] = None
    if row.status == "Stopping":
        row.state["completed"] = now
        return _become(parts, row, row.state["desired"])
    row.document.pop("StatusReason", None)
    return _become(parts, row, "Running")


def _fail(parts: Parts, row: Row, reason: str, now: float) -> None:
    """What did not begin is cancelled; what runs goes on as it was; what stops has stopped, and says so."""
    row.state["wanted"] = None
    row.document["StatusReason"] = reason[:REASON_CHARACTERS_MAX]
    if row.status == "Updating":
        return _become(parts, row, "Running")
    row.state["completed"] = now
    return _become(parts, row, row.state["desired"] if row.status == "Stopping" else "Cancelled")


def _become(parts: Parts, row: Row, status: str) -> None:
    before, row.status = row.status, status
    parts.store.rows.update(row, transition(before, status))
    log.info("inference experiment %s is %s", row.name, status)


def _numbered(row: Row) -> dict[str, Any]:
    """A configuration of its own for each change; its name leaves room for the number."""
    number = int(row.state.get("configs", 0)) + 1
    row.state["configs"] = number
    return {"config": f"{row.name[:40]}-{row.id}-{number}", "asked": False}


def _has(endpoint: Row | None, config: str) -> bool:
    return endpoint is not None and (endpoint.state.get("live") or {}).get("config") == config


def _capture_of(endpoint: Row | None) -> dict[str, Any] | None:
    return None if endpoint is None else (endpoint.state.get("live") or {}).get("capture")


def _endpoint(parts: Parts, row: Row) -> Row | None:
    name = row.document["EndpointName"]
    return parts.store.rows.get("Endpoint", name, account=row.account, region=row.region)


def _call(parts: Parts, row: Row, operation: str, request: dict[str, Any]) -> None:
    principal = service_principal(row.account, "sagemaker.amazonaws.com")
    parts.call("sagemaker", operation, request, principal=principal, region=row.region)


def _open(parts: Parts) -> Iterator[Row]:
    for region in parts.store.rows.regions(KIND):
        after = None
        while True:
            query = Query(
                KIND,
                parts.settings.account,
                region,
                sort_by="name",
                limit=_PAGE,
                after=after,
                matches=lambda row: row.status not in ENDED,
            )
            rows, after = parts.store.rows.page(query)
            yield from rows
            if after is None:
                break
