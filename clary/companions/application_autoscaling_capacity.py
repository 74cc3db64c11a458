"""The capacities of SageMaker that can be scaled: how each is read and set, by the operations a user would call."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from clary.companions.application_autoscaling_names import validation_error
from clary.engine.call import Call, Parts
from clary.identity.principals import service_principal
from clary.model.errors import ApiError

_VARIANT = re.compile(r"endpoint/([a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62})/variant/([^/]{1,63})")
_COMPONENT = re.compile(r"inference-component/([a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62})")
_NOT_THERE = ("ValidationException", "ResourceNotFound", "ResourceNotFoundException")


@dataclass(frozen=True, slots=True)
class Capacity:
    """What is asked for and what runs now; of a resource that is being changed the two differ."""

    desired: int
    current: int
    settled: bool = True  # whether the resource takes a change now


Ask = Callable[[str, dict[str, Any]], dict[str, Any]]  # an operation of SageMaker, and its request


@dataclass(frozen=True, slots=True)
class Dimension:
    resource: re.Pattern[str]
    role: str
    read: Callable[[Ask, re.Match[str]], Capacity | None]
    write: Callable[[Ask, re.Match[str], int], None]


def check_resource(call: Call) -> None:
    """Raise ValidationException for a namespace, dimension and resource that do not belong together."""
    dimension = DIMENSIONS.get(call.input["ScalableDimension"])
    if call.input["ServiceNamespace"] != "sagemaker" or dimension is None:
        raise validation_error("Unsupported service namespace, resource type or scalable dimension")
    if not dimension.resource.fullmatch(call.input["ResourceId"]):
        raise validation_error(
            f"Unsupported service namespace, resource type or scalable dimension: ResourceId "
            f"{call.input['ResourceId']} does not fit {call.input['ScalableDimension']}"
        )


def capacity_of(
    parts: Parts, account: str, region: str, target: Mapping[str, Any]
) -> Capacity | None:
    """None if there is no such resource."""
    dimension = DIMENSIONS[target["ScalableDimension"]]
    found = dimension.resource.fullmatch(target["ResourceId"])
    assert found is not None, "check_resource lets no other pass"
    try:
        return dimension.read(_asking(parts, account, region), found)
    except ApiError as problem:
        if problem.code in _NOT_THERE:
            return None
        raise


def set_capacity(
    parts: Parts, account: str, region: str, target: Mapping[str, Any], capacity: int
) -> None:
    """Ask for another capacity; raises what SageMaker says against it."""
    dimension = DIMENSIONS[target["ScalableDimension"]]
    found = dimension.resource.fullmatch(target["ResourceId"])
    assert found is not None, "check_resource lets no other pass"
    dimension.write(_asking(parts, account, region), found, capacity)


def _asking(parts: Parts, account: str, region: str) -> Ask:
    principal = service_principal(account, "sagemaker.application-autoscaling.amazonaws.com")

    def ask(operation: str, request: dict[str, Any]) -> dict[str, Any]:
        return parts.call("sagemaker", operation, request, principal=principal, region=region)

    return ask


def _described_variant(ask: Ask, found: re.Match[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    endpoint = ask("DescribeEndpoint", {"EndpointName": found[1]})
    variants = endpoint.get("ProductionVariants", [])
    return endpoint, next((one for one in variants if one["VariantName"] == found[2]), {})


def _read_instances(ask: Ask, found: re.Match[str]) -> Capacity | None:
    endpoint, variant = _described_variant(ask, found)
    if "DesiredInstanceCount" not in variant:
        return None
    settled = endpoint["EndpointStatus"] == "InService"
    return Capacity(variant["DesiredInstanceCount"], variant["CurrentInstanceCount"], settled)


def _write_instances(ask: Ask, found: re.Match[str], capacity: int) -> None:
    wanted = {"VariantName": found[2], "DesiredInstanceCount": capacity}
    _update(ask, found, wanted)


def _read_provisioned(ask: Ask, found: re.Match[str]) -> Capacity | None:
    endpoint, variant = _described_variant(ask, found)
    wanted = variant.get("DesiredServerlessConfig")
    if wanted is None:
        return None
    current = variant.get("CurrentServerlessConfig") or {}
    return Capacity(
        wanted.get("ProvisionedConcurrency") or 0,
        current.get("ProvisionedConcurrency") or 0,
        endpoint["EndpointStatus"] == "InService",
    )


def _write_provisioned(ask: Ask, found: re.Match[str], capacity: int) -> None:
    _, variant = _described_variant(ask, found)
    most = variant["DesiredServerlessConfig"]["MaxConcurrency"]
    config = {"MaxConcurrency": most, "ProvisionedConcurrency": capacity}
    _update(ask, found, {"VariantName": found[2], "ServerlessUpdateConfig": config})


def _update(ask: Ask, found: re.Match[str], wanted: dict[str, Any]) -> None:
    request = {"EndpointName": found[1], "DesiredWeightsAndCapacities": [wanted]}
    ask("UpdateEndpointWeightsAndCapacities", request)


def _read_copies(ask: Ask, found: re.Match[str]) -> Capacity | None:
    component = ask("DescribeInferenceComponent", {"InferenceComponentName": found[1]})
    config = component.get("RuntimeConfig") or {}
    if "DesiredCopyCount" not in config:
        return None
    settled = component["InferenceComponentStatus"] == "InService"
    return Capacity(config["DesiredCopyCount"], config.get("CurrentCopyCount") or 0, settled)


def _write_copies(ask: Ask, found: re.Match[str], capacity: int) -> None:
    request = {
        "InferenceComponentName": found[1],
        "DesiredRuntimeConfig": {"CopyCount": capacity},
    }
    ask("UpdateInferenceComponentRuntimeConfig", request)


_ENDPOINTS_ROLE = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
DIMENSIONS = {
    "sagemaker:variant:DesiredInstanceCount": Dimension(
        _VARIANT, _ENDPOINTS_ROLE, _read_instances, _write_instances
    ),
    "sagemaker:variant:DesiredProvisionedConcurrency": Dimension(
        _VARIANT, _ENDPOINTS_ROLE, _read_provisioned, _write_provisioned
    ),
    "sagemaker:inference-component:DesiredCopyCount": Dimension(
        _COMPONENT,
        "AWSServiceRoleForApplicationAutoScaling_SageMakerInferenceComponent",
        _read_copies,
        _write_copies,
    ),
}
