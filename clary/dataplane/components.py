"""Inference components at the door: which copies stand behind a name, and what is counted of each."""

from __future__ import annotations

from typing import Any

from clary.dataplane.invocation import Invocation
from clary.dataplane.invocation_errors import validation_error
from clary.dataplane.invocation_metrics import InvocationMetrics
from clary.dataplane.routes import EndpointRoute, Variant
from clary.dataplane.upstream import Headers
from clary.model.errors import ApiError

COMPONENT = "x-amzn-sagemaker-inference-component"
NAME_REQUIRED = (
    "Inference Component Name header is required for endpoints to which you plan to deploy inference "
    "components. Please include Inference Component Name header or consider using SageMaker models."
)
NO_CAPACITY = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be "
    "in-progress (if configured) or try to increase the capacity by invoking "
    "UpdateInferenceComponentRuntimeConfig API."
)


def component_variants(route: EndpointRoute, name: str) -> tuple[Variant, ...]:
    """The copies of a component, as one or, while it is updated, two fleets; raise an ApiError if there are none."""
    if route.components is None:
        raise validation_error(
            f"Endpoint {route.name} of account {route.account} does not host inference components."
        )
    if not name:
        raise validation_error(NAME_REQUIRED)
    fleets = route.components.get(name)
    if fleets is None:
        raise validation_error(f"Inference Component {name} not found on endpoint {route.name}.")
    able = tuple(fleet for fleet in fleets if fleet.instances)
    if not able:
        raise validation_error(NO_CAPACITY)
    return able


class ComponentInvocation(Invocation):
    """A request for one component; it is counted for that as well."""

    __slots__ = ("metrics",)

    def __init__(self, metrics: InvocationMetrics, *members: Any) -> None:
        super().__init__(*members)
        self.metrics = metrics

    def noted(self, status: int, headers: Headers) -> None:
        dimensions = (("InferenceComponentName", self.headers[COMPONENT]),)
        region, copies = self.route.region, len(self.variant.instances)
        self.metrics.observe("Invocations", region, dimensions, "None", 1.0)
        self.metrics.observe("InvocationsPerCopy", region, dimensions, "None", 1.0 / copies)

    def refused(self, status: int, text: str) -> ApiError:
        dimensions = (("InferenceComponentName", self.headers[COMPONENT]),)
        name = "Invocation4XXErrors" if 400 <= status < 500 else "Invocation5XXErrors"
        self.metrics.observe(name, self.route.region, dimensions, "None", 1.0)
        return super().refused(status, text)
