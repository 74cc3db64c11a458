"""An inference component: copies of a model on an endpoint, scaled and updated apart from all others on it.

Its copies are hosts of its own, which come up, are replaced in batches and go as the instances of an endpoint do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from clary.engine.call import Call
from clary.engine.naming import arn_of
from clary.engine.projection import describe as described
from clary.engine.resource import Resource
from clary.engine.verbs import change_row, create
from clary.model.errors import ValidationException
from clary.reconcile.lifecycles import ENDPOINT
from clary.resources.inference.endpoint_alarms import require_alarms
from clary.resources.inference.endpoint_containers import container_part, is_plain, model_part
from clary.resources.inference.endpoint_deployment import (
    begin,
    next_revision,
    require_in_service,
)
from clary.resources.inference.endpoint_fleets import shown_fleet
from clary.resources.inference.endpoint_hosts import adapter_of
from clary.resources.inference.endpoint_launch import hosts, images
from clary.resources.inference.endpoint_plan import plan_endpoint
from clary.resources.inference.endpoint_routes import publish_routes, publishing_routes
from clary.resources.inference.endpoint_shown import last_deployment_config
from clary.resources.inference.endpoint_traffic import ALL_AT_ONCE, check_policy
from clary.resources.inference.inference_component_adapter import (
    adapter_target,
    require_no_adapters,
)
from clary.resources.inference.inference_component_placement import held_by, refusal
from clary.resources.inference.inference_component_specification import (
    check_specifications,
    given_specifications,
    specification_for,
    specification_shown,
    specifications_shown,
)
from clary.store.rows import Row

KIND, WHAT = "InferenceComponent", "inference component"
MEGABYTE = 1024 * 1024
COPIES_DEFAULT = 1


def specifications_are_clear(call: Call) -> None:
    check_specifications(call.input)


def endpoint_takes_components(call: Call) -> None:
    variant = _variant(call, _endpoint(call, call.input["EndpointName"]))
    call.input["VariantName"] = variant["VariantName"]


def _endpoint(call: Call, name: str) -> Row:
    row = call.parts.store.rows.get("Endpoint", name, account=call.account, region=call.region)
    if row is None:
        bound = call.parts.bound("Endpoint")
        raise bound.missing_error(name, arn_of(bound, call, "", name))
    if row.status not in ("InService", "Updating"):
        raise ValidationException(
            f'The endpoint "{row.arn}" is {row.status}: inference components can be created once it '
            "is InService."
        )
    return row


def _variant(call: Call, endpoint: Row) -> Mapping[str, Any]:
    variants = endpoint.state["live"]["variants"]
    name = call.input.get("VariantName") or variants[0]["VariantName"]
    found = next((one for one in variants if one["VariantName"] == name), None)
    if found is None:
        raise ValidationException(
            f'Could not find production variant "{name}" of endpoint "{endpoint.arn}".'
        )
    if not found.get("components"):
        raise ValidationException(
            f"Production variant {name} of endpoint {endpoint.name} serves a model of its own; "
            "inference components need a variant without a ModelName."
        )
    return found


def _target(
    call: Call, endpoint: Row, document: Mapping[str, Any], count: int, revision: int
) -> dict[str, Any]:
    """What runs, in the form of an endpoint: one variant whose instances are the copies."""
    variants = endpoint.state["live"]["variants"]
    variant = next(one for one in variants if one["VariantName"] == document["VariantName"])
    specification = specification_for(document, variant)
    asked = {"asked": given_specifications(document)}
    if specification.get("BaseInferenceComponentName"):
        given = {**document, "Specification": specification}
        return adapter_target(call, endpoint, given, variant, revision) | asked
    startup = specification.get("StartupParameters") or {}
    needed = specification.get("ComputeResourceRequirements") or {}
    memory = needed.get("MaxMemoryRequiredInMb")
    found = {
        "VariantName": document["VariantName"],
        "count": count,
        "weight": 1.0,
        **_model(call, specification, variant["role"]),
        "memory_bytes": memory * MEGABYTE if memory else None,
        "needs": dict(needed),
    }
    health = startup.get("ContainerStartupHealthCheckTimeoutInSeconds")
    if health:
        found["ContainerStartupHealthCheckTimeoutInSeconds"] = health
    return {"config": f"r{revision}", "revision": revision, "variants": [found]} | asked


def _refusal(call: Call, endpoint_arn: str, name: str, target: Mapping[str, Any]) -> str | None:
    """Why there is no room for what a component is to be on the instances that its endpoint is to have."""
    rows = call.parts.store.rows
    endpoint = rows.by_arn(endpoint_arn)
    (asked,) = target["variants"]
    variants = endpoint.state["target"]["variants"] if endpoint else ()
    variant = next((one for one in variants if one["VariantName"] == asked["VariantName"]), None)
    if variant is None:
        return None  # it has gone with an update of the endpoint
    every = rows.every(KIND, account=call.account, region=call.region)
    others = [row for row in every if row.name != name]
    return refusal(variant, asked, held_by(others, endpoint_arn, asked["VariantName"]))


def _model(call: Call, specification: Mapping[str, Any], role: str) -> dict[str, Any]:
    name, given = specification.get("ModelName"), specification.get("Container")
    if bool(name) == bool(given):
        raise ValidationException("A Specification gives either a ModelName or a Container.")
    if given:
        return container_part(call.parts, given, role)
    row = call.parts.store.rows.get("Model", name or "", account=call.account, region=call.region)
    if row is None:
        arn = arn_of(call.parts.bound("Model"), call, "", name or "")
        raise ValidationException(f'Could not find model "{arn}".')
    part = model_part(call.parts, row)
    if not is_plain(part):
        raise ValidationException(
            f"Model {name} has several containers or a multi-model container: an inference component "
            "runs one container with one model. Create a component for each."
        )
    return part


def _runtime(row: Row) -> dict[str, Any] | None:
    if adapter_of(row) is not None:
        return None  # it is asked on the copies of its base
    (variant,) = row.state["target"]["variants"]
    return {"DesiredCopyCount": variant["count"], "CurrentCopyCount": shown_fleet(row)}


inference_component = Resource(
    KIND,
    lifecycle=ENDPOINT,
    computed={
        "EndpointArn": lambda row: row.state["endpoint"],
        "Specification": specification_shown,
        "Specifications": specifications_shown,
        "RuntimeConfig": _runtime,
        "LastDeploymentConfig": last_deployment_config,
    },
    missing=ValidationException('Could not find inference component "{arn}".'),
    taken=ValidationException('Cannot create already existing inference component "{arn}".'),
    admits=(specifications_are_clear, endpoint_takes_components),
    plan=plan_endpoint,
    hosts=hosts,
    images=images,
    publishing=publishing_routes,
    takes_slots=False,
)


@inference_component.operation("CreateInferenceComponent")
def create_inference_component(call: Call) -> dict[str, Any]:
    specifications_are_clear(call)
    endpoint_takes_components(call)
    endpoint = _endpoint(call, call.input["EndpointName"])
    count = (call.input.get("RuntimeConfig") or {}).get("CopyCount", COPIES_DEFAULT)
    target = _target(call, endpoint, call.input, count, 1)
    refused = _refusal(call, endpoint.arn, call.input["InferenceComponentName"], target)
    state = {"target": target, "endpoint": endpoint.arn, "refused": refused}
    return create(call.parts.bound(KIND), call, state)


@inference_component.operation("UpdateInferenceComponent")
def update_inference_component(call: Call) -> dict[str, Any]:
    fresh = given_specifications(call.input)
    if fresh:
        specifications_are_clear(call)

    def change(row: Row) -> None:
        require_in_service(row, WHAT)
        live = row.state["live"]
        given = call.input.get("RuntimeConfig") or {}
        count = given.get("CopyCount", live["variants"][0]["count"])
        if not fresh:
            _resize(call, row, count)
            return
        document = {**row.document, "InferenceComponentName": row.name, **fresh}
        endpoint = _endpoint(call, row.document["EndpointName"])
        target = _target(call, endpoint, document, count, next_revision(row))
        config = call.input.get("DeploymentConfig")
        check_policy(config or ALL_AT_ONCE, live, target)
        require_alarms(call, config or {})
        begin(row, target, config, call.time)
        row.state["refused"] = _refusal(call, row.state["endpoint"], row.name, target)

    return _changed(call, change)


@inference_component.operation("UpdateInferenceComponentRuntimeConfig")
def update_inference_component_runtime_config(call: Call) -> dict[str, Any]:
    def change(row: Row) -> None:
        require_in_service(row, WHAT)
        if adapter_of(row) is not None:
            raise ValidationException(
                f"{row.name} is an adapter inference component: it has no copies of its own."
            )
        _resize(call, row, call.input["DesiredRuntimeConfig"]["CopyCount"])

    return _changed(call, change)


@inference_component.operation("DeleteInferenceComponent")
def delete_inference_component(call: Call) -> dict[str, Any]:
    def change(row: Row) -> None:
        require_no_adapters(call, row)
        row.status, row.due = "Deleting", call.time

    _changed(call, change)
    return {}


def _resize(call: Call, row: Row, count: int) -> None:
    live = row.state["live"]
    target = {**live, "variants": [{**one, "count": count} for one in live["variants"]]}
    refused = None
    if count > live["variants"][0]["count"]:  # copies can go whatever the room is
        refused = _refusal(call, row.state["endpoint"], row.name, target)
    row.state |= {"target": target, "refused": refused}
    row.document["FailureReason"] = None
    row.status, row.due = "Updating", call.time


def _changed(call: Call, change: Callable[[Row], None]) -> dict[str, Any]:
    bound = call.parts.bound(KIND)
    row = change_row(bound, call, change)
    publish_routes(call.parts)
    call.parts.wake()
    return described(bound, row, "Create")
