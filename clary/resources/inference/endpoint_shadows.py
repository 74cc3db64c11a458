"""Shadow variants of an endpoint: how many there may be, and which share of the requests each gets a copy of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.model.errors import ValidationException


def check_shadows(config: Mapping[str, Any]) -> None:
    """One shadow beside one production variant, both on instances, as CreateEndpointConfig documents."""
    shadows = config.get("ShadowProductionVariants") or []
    if not shadows:
        return
    if len(shadows) > 1 or len(config["ProductionVariants"]) > 1:
        raise ValidationException(
            "An endpoint with a shadow variant has exactly one production variant and one shadow "
            "variant."
        )
    if "ServerlessConfig" in shadows[0]:
        raise ValidationException("A shadow variant cannot be serverless.")
    if config.get("AsyncInferenceConfig"):
        raise ValidationException("An asynchronous endpoint cannot have shadow variants.")


def sampled_share(shadow: Mapping[str, Any], production: Mapping[str, Any]) -> float:
    """The weight of a shadow relative to its production variant is the share that is copied."""
    weight = float(production["weight"])
    return min(1.0, float(shadow["weight"]) / weight) if weight > 0 else 0.0
