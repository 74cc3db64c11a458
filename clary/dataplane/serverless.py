"""Serverless variants at the door: their bound on concurrency, and requests that wait for a host to start.

request ── within MaxConcurrency? ── a host? ── model server
                 └ ThrottlingException   └ ask control to start one, wait for it in the routes
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from clary.dataplane.answer_heads import AnswerHead
from clary.dataplane.invocation import INSTANCES_TRIED_MAX, Invocation, failure, settling
from clary.dataplane.invocation_errors import validation_error
from clary.dataplane.invocation_metrics import InvocationMetrics
from clary.dataplane.routes import Instance, RoutingTable, Variant
from clary.dataplane.upstream import CannotConnect, PoolBusy, UpstreamFailure
from clary.model.errors import ApiError, ThrottlingException

log = logging.getLogger(__name__)

PAYLOAD_BYTES_MAX = 4 * 1024 * 1024
STARTING_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.005
TOLD_SECONDS = 10.0  # a variant in use is told to control this often, well within its idle time
TELL_AGAIN_SECONDS = 1.0  # while requests wait for a host

Key = tuple[str, str, str]  # region, endpoint, variant


class Control(Protocol):
    async def ask(
        self, method: str, target: str, body: bytes = b"", *, seconds: float = 2.0
    ) -> tuple[int, bytes]: ...


class Serverless:
    """What the door knows of the serverless variants of all endpoints."""

    def __init__(
        self,
        routes: RoutingTable,
        control: Control | None,
        metrics: InvocationMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._routes = routes
        self._control = control
        self._metrics = metrics
        self._clock = clock
        self._under_way: dict[Key, int] = {}
        self._peaks: dict[Key, int] = {}
        self._told: dict[Key, float] = {}
        self._starting: dict[Key, asyncio.Task[None]] = {}

    def begin(self, variant: Variant) -> None:
        """Take a place among the requests of a variant; raise ThrottlingException if all are taken."""
        assert variant.serverless is not None
        count = self._under_way.get(variant.key, 0)
        if count >= variant.serverless.concurrency:
            raise ThrottlingException(
                f"Rate exceeded: {variant.serverless.concurrency} requests are under way, which is "
                f"the MaxConcurrency of variant {variant.name}.",
                status=429,
            )
        self._under_way[variant.key] = count + 1
        self._peaks[variant.key] = max(count + 1, self._peaks.get(variant.key, 0))
        if self._clock() - self._told.get(variant.key, -TOLD_SECONDS) >= TOLD_SECONDS:
            self._tell_soon(variant.key)

    def end(self, variant: Variant) -> None:
        left = self._under_way.get(variant.key, 0) - 1
        if left > 0:
            self._under_way[variant.key] = left
        else:
            self._under_way.pop(variant.key, None)

    def take_peak(self, variant: Variant) -> int:
        """The most requests at once since this was last asked."""
        return max(self._peaks.pop(variant.key, 0), self._under_way.get(variant.key, 0))

    def instances(self, key: Key) -> tuple[Instance, ...]:
        """The hosts of a variant as the routes are now."""
        route = self._routes.find(key[0], key[1])
        variant = route.variant(key[2]) if route is not None else None
        return variant.instances if variant is not None else ()

    async def start(self, key: Key, but: Instance | None) -> Instance | None:
        """Have a host started and wait for it; None if none came up in time."""
        deadline = self._clock() + STARTING_SECONDS_MAX
        told = 0.0
        while self._clock() < deadline:
            for instance in self.instances(key):
                if instance is not but or instance.socket.exists():
                    return instance
            if self._clock() - told >= TELL_AGAIN_SECONDS:
                told = self._clock()
                self._tell_soon(key)
            await asyncio.sleep(LOOK_SECONDS)
        return None

    def observe_setup(self, key: Key, seconds: float) -> None:
        region, endpoint, variant = key
        dimensions = (("EndpointName", endpoint), ("VariantName", variant))
        self._metrics.observe("ModelSetupTime", region, dimensions, "Microseconds", seconds * 1e6)

    def _tell_soon(self, key: Key) -> None:
        """Once at a time for each variant; control that is away hears it a little later."""
        self._told[key] = self._clock()
        if key in self._starting:
            return
        task = asyncio.get_running_loop().create_task(self._tell(key))
        self._starting[key] = task
        task.add_done_callback(lambda _: self._starting.pop(key, None))

    async def _tell(self, key: Key) -> None:
        if self._control is None:
            return
        region, endpoint, variant = key
        used = [{"region": region, "endpoint": endpoint, "variant": variant}]
        try:
            await self._control.ask("POST", "/_clary/serverless", json.dumps(used).encode())
        except UpstreamFailure as problem:
            self._told.pop(key, None)
            log.info("control could not be told that %s/%s is in use: %s", *key[:2], problem)


class ServerlessInvocation(Invocation):
    """A request of a serverless variant: it holds one place of its concurrency to its end."""

    __slots__ = ("_task", "holds", "serverless")
    whole_only = "it is serverless"

    def __init__(self, serverless: Serverless, *members: Any) -> None:
        super().__init__(*members)
        if len(self.body) > PAYLOAD_BYTES_MAX:
            raise validation_error(
                f"The request of {len(self.body)} bytes is longer than the {PAYLOAD_BYTES_MAX} that "
                "a serverless endpoint takes."
            )
        self.serverless = serverless
        self.holds = False
        self._task: asyncio.Task[None] | None = None

    def send(self, choose: Callable[[], float]) -> None:
        if not self.holds:
            self.serverless.begin(self.variant)
            self.holds = True
        instances = self.variant.instances or self.serverless.instances(self.variant.key)
        self.tried += 1
        if not instances or self.tried > 1:
            # None is up, or the one that was is about to go.
            self._task = asyncio.get_running_loop().create_task(
                settling(self, self._start_and_submit())
            )
            return
        self.instance = min(instances, key=lambda one: one.outstanding)
        try:
            self._submit(self.instance)
        except ApiError:
            self._release()
            raise

    def answered(self, head: AnswerHead, body: bytes | None) -> None:
        self._release()
        super().answered(head, body)

    def failed(self, problem: UpstreamFailure) -> None:
        if not isinstance(problem, CannotConnect) or self.tried >= INSTANCES_TRIED_MAX:
            self._release()
        super().failed(problem)

    async def _start_and_submit(self) -> None:
        began = time.perf_counter()
        try:
            instance = await self.serverless.start(self.variant.key, self.instance)
            if instance is None:
                raise _not_ready(self)
            self.serverless.observe_setup(self.variant.key, time.perf_counter() - began)
            self.instance = instance
            self._submit(instance)
        except BaseException:
            self._release()
            raise

    def _submit(self, instance: Instance) -> None:
        self.sent = time.perf_counter()
        try:
            instance.lanes.submit(self, self.request, self.variant.timeout_seconds)
        except PoolBusy as problem:
            raise failure(self.route, problem) from problem

    def _release(self) -> None:
        if self.holds:
            self.holds = False
            self.serverless.end(self.variant)


def _not_ready(invocation: ServerlessInvocation) -> ApiError:
    return ApiError(
        f"The model of endpoint {invocation.route.name} did not come up within "
        f"{STARTING_SECONDS_MAX:g} seconds. Look for the reason in its log group "
        f"{invocation.route.log_group} and try again.",
        code="ModelNotReadyException",
        status=429,
    )
