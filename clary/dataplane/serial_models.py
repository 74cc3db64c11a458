"""Inference pipelines of which one container hosts several models: TargetModel says which of them takes part.

client ── container 1 ── the model of TargetModel in container 2 ── ... ── client
                            └─ downloaded and loaded first, where it is not in memory
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Any

from clary.dataplane.answer_heads import AnswerHead
from clary.dataplane.invocation import settling, too_busy
from clary.dataplane.invocation_errors import validation_error
from clary.dataplane.invocation_metrics import InvocationMetrics
from clary.dataplane.model_shelf import ModelShelf
from clary.dataplane.multi_model import (
    NAME_CHARACTERS_MAX,
    TARGET_MODEL,
    WAITING_PER_INSTANCE_MAX,
    Models,
)
from clary.dataplane.routes import Instance
from clary.dataplane.serial_containers import SerialInvocation
from clary.dataplane.upstream import UpstreamFailure
from clary.model.errors import ApiError


class SerialModelInvocation(SerialInvocation):
    """A request that goes through every container, and in one of them through the model that it names."""

    __slots__ = ("_task", "models", "name", "repeated", "target")

    def __init__(self, models: Models, metrics: InvocationMetrics, *members: Any) -> None:
        self.models = models
        self.repeated = False
        self._task: asyncio.Task[None] | None = None
        self.target = self.name = ""
        super().__init__(metrics, *members)
        self.target = self.headers.get(TARGET_MODEL, "").lstrip("/")
        if not self.target:
            raise validation_error(
                f"A container of endpoint {self.route.name} hosts several models: the request must "
                "name one in TargetModel."
            )
        if len(self.target) > NAME_CHARACTERS_MAX or not self.target.isprintable():
            raise validation_error("TargetModel is not the name of a model.")
        self.name = hashlib.sha256(self.target.encode()).hexdigest()[:32]

    @property
    def path(self) -> str:
        server = self._server()
        several = server is not None and server.multi_model is not None
        return f"/models/{self.name}/invoke" if several else super().path

    def send(self, choose: Callable[[], float]) -> None:
        first = self.choose(choose)
        # The path of the first container is known only with the instance.
        self.request = [self._head(self.headers, len(self.body), last=False), self.body]
        self.submit(first)

    def submit(self, server: Instance) -> None:
        if server.multi_model is None:
            super().submit(server)
            return
        shelf = self.models.shelf(server)
        hit = shelf.has(self.name)
        self.models.observe(self, "ModelCacheHit", "None", float(hit))
        if hit:
            self._submit_to_model(server, shelf)
        elif shelf.waiting >= WAITING_PER_INSTANCE_MAX:
            raise too_busy(self.route)
        else:
            self._wait_for(self._load_and_submit(server, shelf))

    def answered(self, head: AnswerHead, body: bytes | None) -> None:
        server = self._server()
        if server is None or server.multi_model is None:
            super().answered(head, body)
            return
        shelf = self.models.shelf(server)
        shelf.finished(self.name)
        if head.status in (404, 507) and not self.repeated:
            self.repeated = True
            self._wait_for(self._after_refusal(server, shelf, head, body))
            return
        if not server.multi_model.cached and not shelf.is_asked(self.name):
            self._task = asyncio.get_running_loop().create_task(shelf.remove(self.name))
        super().answered(head, body)

    def failed(self, problem: UpstreamFailure) -> None:
        server = self._server()
        if server is not None and server.multi_model is not None:
            self.models.shelf(server).finished(self.name)
        super().failed(problem)

    def _server(self) -> Instance | None:
        """The container that the request is at; none before an instance was chosen."""
        if self.instance is None:
            return None
        return self.instance.containers[self.at][1]

    def _wait_for(self, work: Any) -> None:
        self._task = asyncio.get_running_loop().create_task(settling(self, work))

    def _submit_to_model(self, server: Instance, shelf: ModelShelf) -> None:
        shelf.started(self.name)
        self.sent = time.perf_counter()
        try:
            super().submit(server)
        except ApiError:
            shelf.finished(self.name)
            raise

    async def _load_and_submit(self, server: Instance, shelf: ModelShelf) -> None:
        await self._load(server, shelf)
        self._submit_to_model(server, shelf)

    async def _load(self, server: Instance, shelf: ModelShelf) -> None:
        assert server.multi_model is not None
        prefix, container = server.multi_model.prefix, self.container
        await self.models.load(self, shelf, self.name, self.target, prefix, container)

    async def _after_refusal(
        self, server: Instance, shelf: ModelShelf, head: AnswerHead, body: bytes | None
    ) -> None:
        """The server may have lost the model, or have no memory left to answer: help it once."""
        if head.status == 404 and not await shelf.serves(self.name):
            shelf.forget(self.name)
            await self._load(server, shelf)
        elif head.status == 404 or not await shelf.unload_oldest(but=self.name):
            super().answered(head, body)
            return
        self._submit_to_model(server, shelf)
