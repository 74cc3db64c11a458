"""Adapter components: small models that tailor a base component's answers, brought to its copies when first asked.

    request ── a copy of the base ── has it the adapter? ── POST /invocations with the adapter's name and folder
                                         └─ download ── unpack ── POST /adapters {"name", "src"}
A container without that API reads the folder from the request's headers and keeps what it has loaded itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from clary.dataplane.adapter_settings import AdapterSettings
from clary.dataplane.components import ComponentInvocation
from clary.dataplane.invocation import failure, model_head, settling
from clary.dataplane.invocation_errors import model_error
from clary.dataplane.multi_model import Models
from clary.dataplane.routes import Instance
from clary.dataplane.upstream import PoolBusy

IDENTIFIER = "x-amzn-sagemaker-adapter-identifier"
FOLDER = "x-amzn-sagemaker-adapter-path"
LOADING_SECONDS_MAX = 60.0
ANSWER_BYTES_MAX = 64 * 1024
WITHOUT_API = (404, 405, 501)

Fetch = Callable[[Path], Awaitable[None]]


class Adapters:
    """Which adapters are on which copies; one request brings an adapter, the others wait for it."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self._ready: set[Path] = set()
        self._loading: dict[Path, asyncio.Task[None]] = {}

    @staticmethod
    def folder(instance: Instance, adapter: AdapterSettings) -> Path:
        assert instance.models is not None, "copies of components have a folder for adapters"
        digest = hashlib.sha256(f"{adapter.name}\n{adapter.uri}".encode()).hexdigest()
        return instance.models / digest[:32]

    def has(self, folder: Path) -> bool:
        """A copy that was started again has lost its files, and with them what it had loaded."""
        if folder in self._ready and folder.is_dir():
            return True
        self._ready.discard(folder)
        return False

    def load(self, invocation: AdapterInvocation, folder: Path) -> asyncio.Task[None]:
        task = self._loading.get(folder)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._load(invocation, folder))
            self._loading[folder] = task
            task.add_done_callback(lambda _: self._loading.pop(folder, None))
        return task

    async def _load(self, invocation: AdapterInvocation, folder: Path) -> None:
        instance, adapter = invocation.instance, invocation.adapter
        assert instance is not None
        if not folder.is_dir():
            fetch = self.models.fetch(invocation.route, adapter.uri, "")
            fresh = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
            try:
                await fetch(fresh)
                await asyncio.to_thread(fresh.rename, folder)
            finally:
                await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)
        body = json.dumps({"name": adapter.name, "src": str(folder)}).encode()
        head = (
            "POST /adapters HTTP/1.1\r\nhost: model\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode()
        answer = await instance.pool.send([head, body], seconds=LOADING_SECONDS_MAX)
        status = await answer.head()
        text = (await answer.read(ANSWER_BYTES_MAX) or b"").decode("utf-8", "replace")
        if not 200 <= status < 300 and status != 409 and status not in WITHOUT_API:
            raise model_error(invocation.route, status, text)
        self._ready.add(folder)


class AdapterInvocation(ComponentInvocation):
    """A request for an adapter; it waits where the adapter must be brought first."""

    __slots__ = ("_task", "adapter", "adapters")
    whole_only = "it asks an adapter inference component"

    def __init__(self, adapters: Adapters, *members: Any) -> None:
        super().__init__(*members)
        self.adapters = adapters
        assert self.variant.adapter is not None
        self.adapter = self.variant.adapter
        self._task: asyncio.Task[None] | None = None

    def send(self, choose: Callable[[], float]) -> None:
        instance = self.choose(choose)
        folder = self.adapters.folder(instance, self.adapter)
        if self.adapters.has(folder):
            self._submit(instance, folder)
            return
        again = settling(self, self._load_and_submit(instance, folder))
        self._task = asyncio.get_running_loop().create_task(again)

    async def _load_and_submit(self, instance: Instance, folder: Path) -> None:
        await asyncio.shield(self.adapters.load(self, folder))
        self._submit(instance, folder)

    def _submit(self, instance: Instance, folder: Path) -> None:
        head = model_head(self.headers, len(self.body))
        # These are the door's to say: a client's own headers of these names do not get so far.
        lines = f"{IDENTIFIER}: {self.adapter.name}\r\n{FOLDER}: {folder}\r\n\r\n".encode()
        self.request = [head[:-2] + lines, self.body]
        self.sent = time.perf_counter()
        try:
            instance.lanes.submit(self, self.request, self.variant.timeout_seconds)
        except PoolBusy as problem:
            raise failure(self.route, problem) from problem
