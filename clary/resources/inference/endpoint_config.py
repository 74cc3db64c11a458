"""An endpoint configuration: the variants, instances and policies of an endpoint to be; it never changes."""

from __future__ import annotations

from typing import Any

from clary.engine.call import Call
from clary.engine.resource import Resource
from clary.model.errors import ValidationException
from clary.resources.inference.endpoint_async import async_is_for_instances
from clary.resources.inference.endpoint_capture import capture_goes_to_s3
from clary.resources.inference.endpoint_explainer import explainer_can_work
from clary.resources.inference.endpoint_shadows import check_shadows
from clary.resources.inference.serverless import check_serverless, check_serverless_model


def variants_are_named_once(call: Call) -> None:
    names = [variant["VariantName"] for variant in _variants(call)]
    for name in names:
        if names.count(name) > 1:
            raise ValidationException(f"Duplicate production variant name: {name}.")


def _variants(call: Call) -> list[dict[str, Any]]:
    """All of them, shadows included."""
    return [*call.input["ProductionVariants"], *call.input.get("ShadowProductionVariants", [])]


def models_exist(call: Call) -> None:
    for variant in _variants(call):
        name = variant.get("ModelName")
        if not name:
            if not call.input.get("ExecutionRoleArn"):
                raise ValidationException(
                    "A production variant without a ModelName hosts inference components, "
                    "which needs an ExecutionRoleArn in the endpoint configuration."
                )
            continue
        found = call.parts.store.rows.get("Model", name, account=call.account, region=call.region)
        if found is None:
            arn = f"arn:aws:sagemaker:{call.region}:{call.account}:model/{name}"
            raise ValidationException(f'Could not find model "{arn}".')
        if "ServerlessConfig" in variant:
            check_serverless_model(variant, found)


def capacity_is_instances_or_serverless(call: Call) -> None:
    for variant in _variants(call):
        if "ServerlessConfig" in variant and "InstanceType" in variant:
            raise ValidationException(
                f"Production variant {variant['VariantName']} must give either an InstanceType "
                "or a ServerlessConfig, but not both."
            )
        if "ServerlessConfig" not in variant and not variant.get("InstanceType"):
            raise ValidationException(
                f"Production variant {variant['VariantName']} must give an InstanceType "
                "or a ServerlessConfig."
            )


def serverless_can_work(call: Call) -> None:
    check_serverless(call.input)


def shadow_can_work(call: Call) -> None:
    check_shadows(call.input)


def with_weights(call: Call) -> None:
    """InitialVariantWeight is 1.0 where it is not given, and Describe shows it."""
    for variant in _variants(call):
        variant.setdefault("InitialVariantWeight", 1.0)


endpoint_config = Resource(
    "EndpointConfig",
    missing=ValidationException('Could not find endpoint configuration "{arn}".'),
    taken=ValidationException('Cannot create already existing endpoint configuration "{arn}".'),
    admits=(
        variants_are_named_once,
        capacity_is_instances_or_serverless,
        serverless_can_work,
        shadow_can_work,
        models_exist,
        capture_goes_to_s3,
        async_is_for_instances,
        explainer_can_work,
        with_weights,
    ),
)
