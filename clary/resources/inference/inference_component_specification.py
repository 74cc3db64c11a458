"""What an inference component runs: one Specification, or of several the one for the instance type of its variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clary.model.errors import ValidationException
from clary.resources.inference.inference_component_adapter import check_adapter
from clary.store.rows import Row

ONE, SEVERAL = "Specification", "Specifications"


def check_specifications(request: Mapping[str, Any]) -> None:
    """CreateInferenceComponent takes "either this parameter or the singular Specification parameter"."""
    several: Sequence[Mapping[str, Any]] = request.get(SEVERAL) or ()
    one = request.get(ONE)
    if one and several:
        raise ValidationException(
            "Specification and Specifications cannot be given together: use one of the two."
        )
    if not one and not several:
        raise ValidationException("Either Specification or Specifications is required.")
    types = [given.get("InstanceType") or "" for given in several]
    if len(several) > 1 and not all(types):
        raise ValidationException(
            "Every one of several Specifications needs the InstanceType that it is for."
        )
    if len(set(types)) < len(types):
        raise ValidationException("Specifications must not name an InstanceType twice.")
    for given in several or [one or {}]:
        if given.get("BaseInferenceComponentName"):
            check_adapter(given, request.get("RuntimeConfig"))


def specification_for(document: Mapping[str, Any], variant: Mapping[str, Any]) -> Mapping[str, Any]:
    """The specification that applies on the instances of a variant."""
    several: Sequence[Mapping[str, Any]] = document.get(SEVERAL) or ()
    if not several:
        return document[ONE]
    wanted = instance_type_of(variant)
    for one in several:
        if one.get("InstanceType") in (None, wanted):
            return one
    known = ", ".join(sorted(one["InstanceType"] for one in several))
    raise ValidationException(
        f"None of the Specifications is for instance type {wanted} of production variant "
        f"{variant['VariantName']}: they are for {known}."
    )


def instance_type_of(variant: Mapping[str, Any]) -> str:
    """Of several pools the one that SageMaker provisions first; here there is always room for it."""
    pools: Sequence[Mapping[str, Any]] = variant.get("InstancePools") or ()
    if variant.get("InstanceType") or not pools:
        return variant.get("InstanceType") or ""
    return min(pools, key=lambda pool: pool["Priority"])["InstanceType"]


def given_specifications(request: Mapping[str, Any]) -> dict[str, Any]:
    """The members that an update replaces; empty where it leaves them as they are."""
    if not request.get(ONE) and not request.get(SEVERAL):
        return {}
    return {ONE: request.get(ONE), SEVERAL: request.get(SEVERAL)}


def specification_shown(row: Row) -> dict[str, Any] | None:
    """Not told where the component has several."""
    given = _asked(row).get(ONE)
    return _shown(row, given) if given else None


def specifications_shown(row: Row) -> list[dict[str, Any]] | None:
    given = _asked(row).get(SEVERAL)
    return [_shown(row, one) for one in given] if given else None


def _asked(row: Row) -> Mapping[str, Any]:
    """Of what serves: an update that was rolled back or refused has changed nothing."""
    part = row.state.get("live") or row.state["target"]
    return part.get("asked") or row.document


def _shown(row: Row, given: Mapping[str, Any]) -> dict[str, Any]:
    """As it was given, with the image that was deployed in place of the one that was named."""
    shown = dict(given)
    container = shown.get("Container")
    if container:
        image = container.get("Image")
        left = {name: value for name, value in container.items() if name != "Image"}
        deployed = {"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": row.created}
        shown["Container"] = {**left, **({"DeployedImage": deployed} if image else {})}
    return shown
