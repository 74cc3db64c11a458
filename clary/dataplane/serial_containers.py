"""Instances of several containers: a chain that hands each answer on, or one chosen by its name.

Serial   client ── container 1 ── container 2 ── ... ── client
Direct   client ── the container of TargetContainerHostname ── client
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from clary.dataplane.answer_heads import AnswerHead
from clary.dataplane.invocation import (
    CONTENT_TYPE,
    Invocation,
    failure,
    model_head,
    too_busy,
)
from clary.dataplane.invocation_errors import validation_error
from clary.dataplane.invocation_metrics import Dimensions, InvocationMetrics
from clary.dataplane.routes import EndpointRoute, Instance
from clary.dataplane.upstream import Headers, PoolBusy, UpstreamFailure
from clary.model.errors import ApiError

TARGET_CONTAINER = "x-amzn-sagemaker-target-container-hostname"
ACCEPT = "accept"
SERIAL, DIRECT = "Serial", "Direct"


class SerialInvocation(Invocation):
    """A request that goes through every container; what one answers is the next one's request."""

    __slots__ = ("at", "container", "metrics")
    whole_only = "it is an inference pipeline"

    def __init__(self, metrics: InvocationMetrics, *members: Any) -> None:
        super().__init__(*members)
        self.metrics = metrics
        self.at = 0
        self.request = [self._head(self.headers, len(self.body), last=False), self.body]

    def choose(self, choose: Callable[[], float]) -> Instance:
        self.container, first = super().choose(choose).containers[0]
        return first

    def submit(self, server: Instance) -> None:
        """Ask one container; raise an ApiError where too many wait for it."""
        try:
            server.lanes.submit(self, self.request, self.variant.timeout_seconds)
        except PoolBusy as problem:
            raise too_busy(self.route) from problem

    def answered(self, head: AnswerHead, body: bytes | None) -> None:
        assert self.instance is not None
        containers = self.instance.containers
        observe_container(self, self.metrics)
        if self.at + 1 == len(containers) or body is None or not 200 <= head.status < 300:
            super().answered(head, body)
            return
        self.model_seconds += time.perf_counter() - self.sent
        self.at += 1
        self.container, server = containers[self.at]
        self._hand_on(server, head, body)

    def failed(self, problem: UpstreamFailure) -> None:
        # Once a container has answered, only the rest of the chain could be repeated.
        if self.at == 0:
            super().failed(problem)
            return
        self.model_seconds += time.perf_counter() - self.sent
        self.settled.failed(self, failure(self.route, problem, self.container))

    def _hand_on(self, container: Instance, head: AnswerHead, body: bytes) -> None:
        assert self.instance is not None
        last = self.at + 1 == len(self.instance.containers)
        headers = dict(self.headers)
        headers.pop(CONTENT_TYPE, None)
        for name, value in head.headers:
            if name == CONTENT_TYPE.encode():
                headers[CONTENT_TYPE] = value.decode("latin-1")
        self.request = [self._head(headers, len(body), last=last), body]
        self.sent = time.perf_counter()
        try:
            self.submit(container)
        except ApiError as problem:
            self.settled.failed(self, problem)

    def _head(self, headers: Mapping[str, str], length: int, *, last: bool) -> bytes:
        """What the client accepts is a matter of the last container."""
        given = headers if last else {**headers, ACCEPT: "*/*"}
        return model_head(given, length, path=self.path)

    @property
    def path(self) -> str:
        """What the container is asked that the request goes to now."""
        return "/invocations"


class DirectInvocation(Invocation):
    """A request for one of the containers."""

    __slots__ = ("container", "metrics")

    def __init__(self, metrics: InvocationMetrics, *members: Any) -> None:
        super().__init__(*members)
        self.metrics = metrics
        self.container = self.headers.get(TARGET_CONTAINER, "")
        if not self.container:
            raise validation_error(
                f"Endpoint {self.route.name} runs several containers in Direct mode: the request "
                "must name one in TargetContainerHostname."
            )
        for instance in self.variant.instances[:1]:
            if self.container not in dict(instance.containers):
                raise validation_error(
                    f"Endpoint {self.route.name} has no container {self.container}."
                )

    def choose(self, choose: Callable[[], float]) -> Instance:
        return dict(super().choose(choose).containers)[self.container]

    def noted(self, status: int, headers: Headers) -> None:
        observe_container(self, self.metrics)
        for metric, counted in (
            ("Invocations", True),
            ("Invocation4XXErrors", 400 <= status < 500),
            ("Invocation5XXErrors", status >= 500),
        ):
            self.metrics.observe(metric, self.route.region, _place(self), "None", float(counted))


def observe_container(invocation: Invocation, metrics: InvocationMetrics) -> None:
    """How long one of several containers took to answer."""
    micro = (time.perf_counter() - invocation.sent) * 1e6
    region = invocation.route.region
    metrics.observe("ContainerLatency", region, _place(invocation), "Microseconds", micro)


def _place(invocation: Invocation) -> Dimensions:
    return (
        ("EndpointName", invocation.route.name),
        ("VariantName", invocation.variant.name),
        ("ContainerName", invocation.container),
    )


def refuse_target(route: EndpointRoute) -> None:
    """TargetContainerHostname where there is nothing to choose."""
    raise validation_error(
        f"Endpoint {route.name} does not run containers in Direct mode: TargetContainerHostname "
        "cannot be given."
    )
