"""An endpoint serves one or more variants of models behind one name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clary.engine.call import Call
from clary.engine.naming import arn_of
from clary.engine.projection import describe as described
from clary.engine.resource import BoundResource, Resource
from clary.engine.verbs import change_row, create
from clary.model.errors import ValidationException
from clary.reconcile.lifecycles import ENDPOINT
from clary.resources.inference.endpoint_alarms import require_alarms
from clary.resources.inference.endpoint_async import (
    async_shown,
    require_one_way,
    require_topics,
    tell_topics,
    with_large_payloads,
)
from clary.resources.inference.endpoint_capture import capture_shown
from clary.resources.inference.endpoint_containers import is_plain, model_part
from clary.resources.inference.endpoint_deployment import begin, next_revision, require_in_service
from clary.resources.inference.endpoint_explainer import (
    explainer_of,
    explainer_part,
    explainer_shown,
)
from clary.resources.inference.endpoint_launch import hosts, images
from clary.resources.inference.endpoint_plan import plan_endpoint
from clary.resources.inference.endpoint_routes import publish_routes, publishing_routes
from clary.resources.inference.endpoint_shown import (
    last_deployment_config,
    pending_shown,
    shadows_shown,
    variants_shown,
)
from clary.resources.inference.endpoint_traffic import ALL_AT_ONCE, check_policy
from clary.resources.inference.scale_to_zero import carried_over, least_hosts
from clary.resources.inference.serverless import (
    check_concurrency,
    check_serverless_model,
    serverless_part,
)
from clary.store.rows import Row


def target_of(call: Call, config_name: str, revision: int) -> dict[str, Any]:
    """What an endpoint of this configuration runs: a copy, since models and configurations may be deleted."""
    config = _row(call, "EndpointConfig", config_name)
    shadows = config.document.get("ShadowProductionVariants") or []
    return with_large_payloads(
        {
            "config": config_name,
            "revision": revision,
            "variants": [
                _variant(call, config, variant) for variant in config.document["ProductionVariants"]
            ],
            "shadows": [_variant(call, config, variant) for variant in shadows],
            "capture": config.document.get("DataCaptureConfig"),
            "async": config.document.get("AsyncInferenceConfig"),
            "explainer": explainer_part(call, config.document),
        }
    )


def _variant(call: Call, config: Row, variant: dict[str, Any]) -> dict[str, Any]:
    if not variant.get("ModelName"):
        return _for_components(config, variant)
    model = _row(call, "Model", variant["ModelName"])
    part = model_part(call.parts, model)
    if explainer_of(config.document) and not is_plain(part):
        raise ValidationException(
            "ExplainerConfig cannot be used with models of several containers or models."
        )
    if config.document.get("AsyncInferenceConfig"):
        require_one_way(part)
    if "ServerlessConfig" in variant:
        check_serverless_model(variant, model)  # another may have taken its name
        part = serverless_part(variant, part)
    return {
        **variant,
        "count": variant.get("InitialInstanceCount") or 1,
        "weight": variant.get("InitialVariantWeight", 1.0),
        **part,
    }


def _for_components(config: Row, variant: dict[str, Any]) -> dict[str, Any]:
    """A variant without a model has instances and no hosts: those are of its inference components."""
    if config.document.get("AsyncInferenceConfig"):
        raise ValidationException(
            "AsyncInferenceConfig cannot be used with inference components: InvokeEndpointAsync "
            "cannot name one. Give every ProductionVariant a ModelName."
        )
    return {
        **variant,
        "components": True,
        "instances": variant.get("InitialInstanceCount") or 1,
        "count": 0,
        "weight": variant.get("InitialVariantWeight", 1.0),
        "role": config.document["ExecutionRoleArn"],
        "isolated": bool(config.document.get("EnableNetworkIsolation")),
        "containers": [],
        "pipelined_workers": 0,
    }


def _row(call: Call, noun: str, name: str) -> Row:
    bound = call.parts.bound(noun)
    row = call.parts.store.rows.get(noun, name, account=call.account, region=call.region)
    if row is None:
        raise bound.missing_error(name, arn_of(bound, call, "", name))
    return row


endpoint = Resource(
    "Endpoint",
    lifecycle=ENDPOINT,
    computed={
        "ProductionVariants": variants_shown,
        "ShadowProductionVariants": shadows_shown,
        "PendingDeploymentSummary": pending_shown,
        "LastDeploymentConfig": last_deployment_config,
        "DataCaptureConfig": capture_shown,
        "AsyncInferenceConfig": async_shown,
        "ExplainerConfig": explainer_shown,
    },
    plan=plan_endpoint,
    hosts=hosts,
    images=images,
    publishing=publishing_routes,
    takes_slots=False,
)


@endpoint.operation("CreateEndpoint")
def create_endpoint(call: Call) -> dict[str, Any]:
    target = target_of(call, call.input["EndpointConfigName"], 1)
    require_topics(call, target)
    answer = create(call.parts.bound("Endpoint"), call, {"target": target})
    tell_topics(call, target)
    return answer


@endpoint.operation("UpdateEndpoint")
def update_endpoint(call: Call) -> dict[str, Any]:
    told: dict[str, Any] = {}

    def change(row: Row) -> None:
        require_in_service(row, "endpoint")
        live = row.state["live"]
        target = target_of(call, call.input["EndpointConfigName"], next_revision(row))
        if call.input.get("RetainAllVariantProperties"):
            _retain(live, target, call.input.get("ExcludeRetainedVariantProperties"))
        require_topics(call, target)
        told.update(target)
        carried_over(live, target)
        config = _deployment_config(call, row)
        check_policy(config or ALL_AT_ONCE, live, target)
        require_alarms(call, config or {})
        begin(row, target, config, call.time)

    answer = _changed(call, change, "Update")
    tell_topics(call, told)
    return answer


def _deployment_config(call: Call, row: Row) -> dict[str, Any] | None:
    """What the caller gave, else the last one if it is to be kept; None deploys all at once."""
    given = call.input.get("DeploymentConfig")
    if not call.input.get("RetainDeploymentConfig"):
        return given
    if given:
        raise ValidationException(
            "UpdateEndpoint takes either a DeploymentConfig or RetainDeploymentConfig, not both."
        )
    return last_deployment_config(row)


def _retain(
    live: dict[str, Any], target: dict[str, Any], excluded: list[dict[str, str]] | None
) -> None:
    """Keep the data capture, and the weights and counts of variants that both configurations have."""
    left_out = {one["VariantPropertyType"] for one in excluded or []}
    if "DataCaptureConfig" not in left_out:
        target["capture"] = live.get("capture")
    old = {variant["VariantName"]: variant for variant in live["variants"]}
    for variant in target["variants"]:
        before = old.get(variant["VariantName"])
        if before is None:
            continue
        if "DesiredInstanceCount" not in left_out:
            variant["count"] = before["count"]
        if "DesiredWeight" not in left_out:
            variant["weight"] = before["weight"]


@endpoint.operation("UpdateEndpointWeightsAndCapacities")
def update_endpoint_weights_and_capacities(call: Call) -> dict[str, Any]:
    wanted = {one["VariantName"]: one for one in call.input["DesiredWeightsAndCapacities"]}

    def change(row: Row) -> None:
        require_in_service(row, "endpoint")
        live = row.state["live"]
        known = {variant["VariantName"] for variant in live["variants"]}
        for name in wanted:
            if name not in known:
                raise ValidationException(
                    f'Could not find production variant "{name}" of endpoint "{row.arn}".'
                )
        variants = [_resized(one, wanted.get(one["VariantName"], {})) for one in live["variants"]]
        row.state["target"] = {**live, "variants": variants}
        row.document["FailureReason"] = None
        row.status = "Updating"
        row.due = call.time

    return _changed(call, change, "Update")


def _resized(variant: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    serverless = wanted.get("ServerlessUpdateConfig")
    if serverless is not None or "ServerlessConfig" in variant:
        return _resized_serverless(variant, wanted, serverless or {})
    if variant.get("components"):
        count = wanted.get("DesiredInstanceCount", variant["instances"])
        return {**variant, "instances": count}
    return {
        **variant,
        "weight": wanted.get("DesiredWeight", variant["weight"]),
        "count": wanted.get("DesiredInstanceCount", variant["count"]),
    }


def _resized_serverless(
    variant: dict[str, Any], wanted: dict[str, Any], given: dict[str, Any]
) -> dict[str, Any]:
    name = variant["VariantName"]
    if "ServerlessConfig" not in variant:
        raise ValidationException(f"Production variant {name} is not serverless.")
    if "DesiredInstanceCount" in wanted:
        raise ValidationException(f"Production variant {name} is serverless: it has no instances.")
    settings = {**variant["ServerlessConfig"], **given}
    check_concurrency(name, settings)
    changed = {**variant, "ServerlessConfig": settings}
    return {
        **changed,
        "weight": wanted.get("DesiredWeight", variant["weight"]),
        "count": max(variant["count"], least_hosts(changed)),
    }


@endpoint.operation("DeleteEndpoint")
def delete_endpoint(call: Call) -> dict[str, Any]:
    def change(row: Row) -> None:
        # SageMaker refuses this while a change is under way; an endpoint that is stuck must be able to go.
        _require_no_components(call, row)
        row.status = "Deleting"
        row.due = call.time

    return _changed(call, change, "Delete")


def _require_no_components(call: Call, row: Row) -> None:
    where = {"account": call.account, "region": call.region}
    for component in call.parts.store.rows.every("InferenceComponent", **where):
        if component.state["endpoint"] == row.arn:
            raise ValidationException(
                f'Cannot delete endpoint "{row.arn}" while it has inference components, such as '
                f"{component.name}. Delete its inference components first."
            )


def _changed(call: Call, change: Callable[[Row], None], verb: str) -> dict[str, Any]:
    bound: BoundResource = call.parts.bound("Endpoint")
    row = change_row(bound, call, change)
    publish_routes(call.parts)
    call.parts.wake()
    return described(bound, row, verb)
