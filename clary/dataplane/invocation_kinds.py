"""Which way a request takes through the instances of a variant: plain, a chain, one container, one of many models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from clary.dataplane.adapters import AdapterInvocation, Adapters
from clary.dataplane.components import COMPONENT, ComponentInvocation
from clary.dataplane.explainer import ExplainedInvocation, Explainers
from clary.dataplane.invocation import Done, Invocation, Settled
from clary.dataplane.invocation_metrics import InvocationMetrics
from clary.dataplane.multi_model import TARGET_MODEL, Models, MultiModelInvocation, refuse_model
from clary.dataplane.routes import EndpointRoute, Variant
from clary.dataplane.serial_containers import (
    DIRECT,
    TARGET_CONTAINER,
    DirectInvocation,
    SerialInvocation,
    refuse_target,
)
from clary.dataplane.serial_models import SerialModelInvocation
from clary.dataplane.serverless import Serverless, ServerlessInvocation
from clary.dataplane.session_affinity import SESSION_ID, SessionInvocation, Sessions
from clary.wire.http import Request


@dataclass(frozen=True, slots=True)
class Kinds:
    """Makes invocations, each of the kind that its variant calls for."""

    models: Models
    serverless: Serverless
    metrics: InvocationMetrics
    explainers: Explainers
    adapters: Adapters
    sessions: Sessions = field(default_factory=Sessions)

    def invocation(
        self,
        route: EndpointRoute,
        variant: Variant,
        request: Request,
        started: float,
        settled: Settled,
        done: Done,
    ) -> Invocation:
        """Raise an ApiError where the request does not fit the variant."""
        headers = request.headers
        members: tuple[Any, ...] = (route, variant, headers, request.body, started, settled, done)
        if TARGET_CONTAINER in headers and variant.execution != DIRECT:
            refuse_target(route)
        if variant.multi_model is not None:
            return MultiModelInvocation(self.models, *members)
        if variant.chains_models:
            return SerialModelInvocation(self.models, self.metrics, *members)
        if TARGET_MODEL in headers:
            refuse_model(route)
        if variant.serverless is not None:
            return ServerlessInvocation(self.serverless, *members)
        if variant.adapter is not None:
            return AdapterInvocation(self.adapters, self.metrics, *members)
        if COMPONENT in headers:
            return ComponentInvocation(self.metrics, *members)
        if route.explainer is not None:
            return ExplainedInvocation(self.explainers, *members)
        if not variant.execution:
            if SESSION_ID in headers:
                return SessionInvocation(self.sessions, *members)
            return Invocation(*members)
        kind = DirectInvocation if variant.execution == DIRECT else SerialInvocation
        return kind(self.metrics, *members)
