"""Adapter inference components: artifacts that tailor a base component, and use its copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.engine.call import Call
from clary.model.errors import ValidationException
from clary.model.s3_uris import parse_s3_uri
from clary.resources.inference.endpoint_hosts import adapter_of
from clary.store.rows import Row

KIND = "InferenceComponent"
OF_THE_BASE = ("ModelName", "ComputeResourceRequirements", "StartupParameters")


def check_adapter(specification: Mapping[str, Any], runtime: Mapping[str, Any] | None) -> None:
    """An adapter brings an artifact and nothing else: the base has the container, the compute and the copies."""
    for member in OF_THE_BASE:
        if specification.get(member):
            raise ValidationException(
                f"{member} cannot be given for an adapter inference component: it is its base's."
            )
    if runtime:
        raise ValidationException(
            "RuntimeConfig cannot be given for an adapter inference component: it is asked on the "
            "copies of its base."
        )
    container = specification.get("Container") or {}
    if not container.get("ArtifactUrl") or container.get("Image"):
        raise ValidationException(
            "An adapter inference component gives the ArtifactUrl of its adapter in Container, and "
            "no Image."
        )


def adapter_target(
    call: Call,
    endpoint: Row,
    document: Mapping[str, Any],
    variant: Mapping[str, Any],
    revision: int,
) -> dict[str, Any]:
    """What an adapter runs: nothing of its own; the door brings it to the copies of its base."""
    specification = document["Specification"]
    uri = specification["Container"]["ArtifactUrl"]
    bucket, key = parse_s3_uri(uri)
    if call.parts.objects.head(bucket, key) is None:
        raise ValidationException(f"Could not find the adapter's artifact at {uri}.")
    base = _base(call, endpoint, specification["BaseInferenceComponentName"])
    found = {
        "VariantName": document["VariantName"],
        "count": 0,
        "weight": 1.0,
        "role": variant["role"],
        "isolated": False,
        "containers": [],
        "pipelined_workers": 0,
        # A revision is another adapter to the container, which may still hold the one before.
        "adapter": {
            "name": f"{document['InferenceComponentName']}-r{revision}",
            "base": base.name,
            "uri": uri,
        },
    }
    return {"config": f"r{revision}", "revision": revision, "variants": [found]}


def _base(call: Call, endpoint: Row, name: str) -> Row:
    row = call.parts.store.rows.get(KIND, name, account=call.account, region=call.region)
    if row is None or row.state["endpoint"] != endpoint.arn:
        raise ValidationException(
            f"Could not find the base inference component {name} on endpoint {endpoint.name}."
        )
    if adapter_of(row) is not None:
        raise ValidationException(
            f"{name} is an adapter itself: the base of an adapter has a model of its own."
        )
    return row


def require_no_adapters(call: Call, base: Row) -> None:
    where = {"account": call.account, "region": call.region}
    for row in call.parts.store.rows.every(KIND, **where):
        adapter = adapter_of(row)
        on_base = row.state["endpoint"] == base.state["endpoint"]
        if adapter and on_base and adapter["base"] == base.name and row.status != "Deleting":
            raise ValidationException(
                f'Cannot delete inference component "{base.arn}" while it has adapters, such as '
                f"{row.name}. Delete its adapter inference components first."
            )
