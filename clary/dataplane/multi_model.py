"""Invocations of one of many models, which are fetched and loaded when they are first asked for.

    TargetModel ── an instance that has it, or one by its name ── loaded? ── POST /models/{hash}/invoke
                                                  └─ download ── unpack ── POST /models ─┘   507: unload the oldest

The door does this and not a process beside each host, since it alone knows which models were asked for last; what it
remembers it can lose: a server that has lost a model answers 404, one that has it already 409.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from clary.dataplane.answer_heads import AnswerHead
from clary.dataplane.async_runs import ObjectStore
from clary.dataplane.invocation import Invocation, failure, settling, too_busy
from clary.dataplane.invocation_errors import model_error, validation_error
from clary.dataplane.invocation_metrics import InvocationMetrics
from clary.dataplane.model_shelf import FETCHING_AT_ONCE_MAX, Fetch, ModelShelf, fetch_from
from clary.dataplane.role_calls import Roles
from clary.dataplane.routes import EndpointRoute, Instance
from clary.dataplane.upstream import UpstreamFailure
from clary.model.errors import ApiError
from clary.model.s3_uris import parse_s3_uri

TARGET_MODEL = "x-amzn-sagemaker-target-model"
INVOCATION_SECONDS_MAX = 60.0
WAITING_PER_INSTANCE_MAX = 1024
NAME_CHARACTERS_MAX = 1024
BUSY_REQUESTS = 16  # on each instance that has a model, before another one loads it too


class Models:
    """What the door knows of the models on every instance."""

    def __init__(
        self,
        store: ObjectStore | None,
        roles: Roles | None,
        metrics: InvocationMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._roles = roles
        self._metrics = metrics
        self._clock = clock
        self._shelves: dict[Path, ModelShelf] = {}
        self._fetching = asyncio.Semaphore(FETCHING_AT_ONCE_MAX)

    def shelf(self, instance: Instance) -> ModelShelf:
        found = self._shelves.get(instance.socket)
        if found is None or found.instance is not instance:
            # Those of instances that are gone are forgotten whenever another one comes.
            for path in [path for path in self._shelves if not path.parent.exists()]:
                del self._shelves[path]
            found = self._shelves[instance.socket] = ModelShelf(instance, self._clock)
        return found

    def fetch(self, route: EndpointRoute, prefix: str, target: str) -> Fetch:
        """What brings a model's files onto this machine, as the role of the endpoint."""
        bucket, key = parse_s3_uri(prefix + target)
        return fetch_from(self._store, self._roles, route.role, bucket, key, self._fetching)

    def observe(self, invocation: Invocation, metric: str, unit: str, value: float) -> None:
        region, endpoint, variant = invocation.variant.key
        dimensions = (("EndpointName", endpoint), ("VariantName", variant))
        self._metrics.observe(metric, region, dimensions, unit, value)

    async def load(
        self,
        invocation: Invocation,
        shelf: ModelShelf,
        name: str,
        target: str,
        prefix: str,
        container: str = "primary",
    ) -> None:
        """Wait for the model, which goes on loading if that takes longer than a request may wait."""
        route = invocation.route
        began = time.perf_counter()
        fetch = self.fetch(route, prefix, target)
        task = shelf.load(name, fetch, lambda *told: self.observe(invocation, *told))
        shelf.waiting += 1
        try:
            left = INVOCATION_SECONDS_MAX - (began - invocation.started)
            done, _ = await asyncio.wait({task}, timeout=max(0.0, left))
        finally:
            shelf.waiting -= 1
        seconds = time.perf_counter() - began
        self.observe(invocation, "ModelLoadingWaitTime", "Microseconds", seconds * 1e6)
        if not done:
            raise ApiError(
                f"The model {target} of endpoint {route.name} is not loaded yet. Please try again.",
                code="ModelNotReadyException",
                status=429,
            )
        status, text = task.result()
        if status:
            raise model_error(route, status, text, container=container)


class MultiModelInvocation(Invocation):
    """A request for one model; it waits where the model must be loaded first."""

    __slots__ = ("_task", "models", "name", "repeated", "server_path", "target")
    whole_only = "it hosts several models, and the operation cannot name one of them"

    def __init__(self, models: Models, *members: Any) -> None:
        route: EndpointRoute = members[0]
        headers: Mapping[str, str] = members[2]
        self.models = models
        self.target = headers.get(TARGET_MODEL, "").lstrip("/")
        if not self.target:
            raise validation_error(
                f"Endpoint {route.name} hosts several models: the request must name one in "
                "TargetModel."
            )
        if len(self.target) > NAME_CHARACTERS_MAX or not self.target.isprintable():
            raise validation_error("TargetModel is not the name of a model.")
        self.name = _hashed(self.target)
        self.server_path = f"/models/{self.name}/invoke"
        super().__init__(*members)
        self.repeated = False
        self._task: asyncio.Task[None] | None = None

    def send(self, choose: Callable[[], float]) -> None:
        self.instance = self._instance()
        self.tried += 1
        self.sent = time.perf_counter()
        shelf = self._shelf()
        hit = shelf.has(self.name)
        self.models.observe(self, "ModelCacheHit", "None", float(hit))
        if hit:
            self._submit(shelf)
        elif shelf.waiting >= WAITING_PER_INSTANCE_MAX:
            raise too_busy(self.route)
        else:
            self._task = asyncio.get_running_loop().create_task(
                settling(self, self._load_and_submit(shelf))
            )

    def answered(self, head: AnswerHead, body: bytes | None) -> None:
        shelf = self._shelf()
        shelf.finished(self.name)
        if head.status in (404, 507) and not self.repeated:
            self.repeated = True
            again = settling(self, self._after_refusal(shelf, head, body))
            self._task = asyncio.get_running_loop().create_task(again)
            return
        super().answered(head, body)
        self._put_away(shelf)

    def failed(self, problem: UpstreamFailure) -> None:
        self._shelf().finished(self.name)
        super().failed(problem)

    # Which instance -------------------------------------------------------------------------------

    def _instance(self) -> Instance:
        """One that has the model and is not busy; else the one that its name points to."""
        if len(self.variant.instances) == 1:
            return self.variant.instances[0]
        instances = [one for one in self.variant.instances if one is not self.instance]
        instances = instances or list(self.variant.instances)
        having = [one for one in instances if self.models.shelf(one).has(self.name)]
        if having:
            best = min(having, key=lambda one: one.outstanding)
            if best.outstanding < BUSY_REQUESTS or len(having) == len(instances):
                return best
            instances = [one for one in instances if one not in having]
        words = self.name
        return max(instances, key=lambda one: hashlib.sha256(f"{one.id}/{words}".encode()).digest())

    def _shelf(self) -> ModelShelf:
        assert self.instance is not None
        return self.models.shelf(self.instance)

    # What is done ---------------------------------------------------------------------------------

    def _submit(self, shelf: ModelShelf) -> None:
        assert self.instance is not None
        shelf.started(self.name)
        self.sent = time.perf_counter()
        try:
            self.instance.lanes.submit(self, self.request, self.variant.timeout_seconds)
        except UpstreamFailure as problem:
            shelf.finished(self.name)
            raise failure(self.route, problem) from problem

    async def _load_and_submit(self, shelf: ModelShelf) -> None:
        await self._load(shelf)
        self._submit(shelf)

    async def _load(self, shelf: ModelShelf) -> None:
        settings = self.variant.multi_model
        assert settings is not None
        await self.models.load(self, shelf, self.name, self.target, settings.prefix)

    async def _after_refusal(self, shelf: ModelShelf, head: AnswerHead, body: bytes | None) -> None:
        """The server may have lost the model, or have no memory left to answer: help it once."""
        if head.status == 404 and await shelf.serves(self.name):
            super().answered(head, body)  # the model itself says that there is nothing
            return
        if head.status == 404:
            shelf.forget(self.name)
            await self._load(shelf)
        elif not await shelf.unload_oldest(but=self.name):
            super().answered(head, body)
            return
        self._submit(shelf)

    def _put_away(self, shelf: ModelShelf) -> None:
        settings = self.variant.multi_model
        if settings is not None and not settings.cached and not shelf.is_asked(self.name):
            self._task = asyncio.get_running_loop().create_task(shelf.remove(self.name))


@lru_cache(4096)
def _hashed(target: str) -> str:
    """The name under which servers know a model."""
    return hashlib.sha256(target.encode()).hexdigest()[:32]


def refuse_model(route: EndpointRoute) -> None:
    raise validation_error(
        f"Endpoint {route.name} does not host several models: TargetModel cannot be given."
    )
