"""What DescribeEndpoint tells of an endpoint's variants, and of the deployment that is under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clary.resources.inference.endpoint_deployment import Deployment
from clary.resources.inference.endpoint_hosts import (
    Target,
    containers_of,
    instance_keys,
    variants_of,
)
from clary.store.rows import Row

_KEPT = ("ManagedInstanceScaling", "RoutingConfig")


def variants_shown(row: Row) -> list[dict[str, Any]] | None:
    """ProductionVariants, absent until the endpoint was in service."""
    return _live_shown(row, "variants")


def shadows_shown(row: Row) -> list[dict[str, Any]] | None:
    return _live_shown(row, "shadows") or None


def _live_shown(row: Row, part: str) -> list[dict[str, Any]] | None:
    live = row.state.get("live")
    if not live:
        return None
    deployment = Deployment.of(row)
    if deployment is not None:
        share = 1.0 - deployment.share
        told = _status_of_old(row, deployment)
        return [_shown(row, live, one, one, share, told) for one in live.get(part, [])]
    wanted: dict[str, Mapping[str, Any]] = {
        one["VariantName"]: one for one in variants_of(row.state.get("target") or live)
    }
    told = []
    if row.status == "Updating":
        told = [{"Status": "Updating", "StartTime": row.modified}]
    return [
        _shown(row, live, one, wanted.get(one["VariantName"]) or one, 1.0, told)
        for one in live.get(part, [])
    ]


def pending_shown(row: Row) -> dict[str, Any] | None:
    """PendingDeploymentSummary, while a deployment is under way."""
    deployment = Deployment.of(row)
    if deployment is None:
        return None
    target = row.state["target"]
    told = _status_of_new(row, deployment)
    shown: dict[str, Any] = {
        "EndpointConfigName": target["config"],
        "StartTime": deployment.started,
    }
    parts = (("ProductionVariants", "variants"), ("ShadowProductionVariants", "shadows"))
    for member, part in parts:
        variants = target.get(part, [])
        if variants:
            share = deployment.share
            shown[member] = [_shown(row, target, one, one, share, told) for one in variants]
    return shown


def last_deployment_config(row: Row) -> dict[str, Any] | None:
    return row.state.get("deployment_config", row.document.get("DeploymentConfig"))


def _shown(
    row: Row,
    target: Target,
    variant: Mapping[str, Any],
    wanted: Mapping[str, Any],
    share: float,
    told: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    ready = set(row.state.get("ready", []))
    instances = [instance_keys(target, variant, number) for number in range(int(variant["count"]))]
    shown: dict[str, Any] = {
        "VariantName": variant["VariantName"],
        "DeployedImages": [
            {
                "SpecifiedImage": container["Image"],
                "ResolvedImage": container["Image"],
                "ResolutionTime": row.created,
            }
            for container in containers_of(variant)
            if container.get("Image")
        ],
        "CurrentWeight": round(float(variant["weight"]) * share, 9),
        "DesiredWeight": wanted["weight"],
    }
    if variant.get("components"):
        shown["CurrentInstanceCount"] = variant["instances"]
        shown["DesiredInstanceCount"] = wanted["instances"]
    elif "ServerlessConfig" in variant:
        shown["CurrentServerlessConfig"] = variant["ServerlessConfig"]
        shown["DesiredServerlessConfig"] = wanted["ServerlessConfig"]
    else:
        running = sum(all(key in ready for key in keys) for keys in instances)
        shown["CurrentInstanceCount"] = running
        shown["DesiredInstanceCount"] = wanted["count"]
    shown |= {member: variant[member] for member in _KEPT if member in variant}
    if told:
        shown["VariantStatus"] = [dict(one) for one in told]
    return shown


def _status_of_new(row: Row, deployment: Deployment) -> list[dict[str, Any]]:
    percent = f"{round(100 * deployment.share)} percent of the traffic"
    if deployment.rollback:
        return [_told("Deleting", f"Rolling back. {deployment.rollback}", deployment.shifted_at)]
    if deployment.shifted_at is not None:
        found = [_told("Baking", f"It takes {percent}.", deployment.shifted_at)]
        if not deployment.is_last:
            return [_told("ActivatingTraffic", f"It takes {percent}.", deployment.started), *found]
        return found
    if deployment.number:
        message = f"The next instances come up. It takes {percent}."
        return [_told("Updating", message, deployment.started)]
    return [_told("Creating", "", deployment.started)]


def _status_of_old(row: Row, deployment: Deployment) -> list[dict[str, Any]]:
    if deployment.is_last and deployment.shifted_at is not None and not deployment.rollback:
        return [_told("Deleting", "It is kept until the deployment ends.", deployment.shifted_at)]
    return [_told("Updating", "", deployment.started)]


def _told(status: str, message: str, since: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {"Status": status}
    if message:
        found["StatusMessage"] = message[:1024]
    if since is not None:
        found["StartTime"] = since
    return found
