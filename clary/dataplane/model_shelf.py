"""The models of one instance: which are in its memory, which on its disk, and which is to go when there is no room.

A model's files are in `<models>/<hash>`, unpacked elsewhere and renamed, so that what is there is whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import shutil
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO

from clary.dataplane.async_runs import ObjectStore
from clary.dataplane.invocation_errors import validation_error
from clary.dataplane.role_calls import Roles
from clary.dataplane.routes import Instance
from clary.dataplane.upstream import UpstreamFailure
from clary.model.errors import ApiError
from clary.runner.archives import ArchiveFault, unpack

log = logging.getLogger(__name__)

FETCHING_AT_ONCE_MAX = 2
LOADING_SECONDS_MAX = 360.0
MANAGEMENT_SECONDS = 30.0
ANSWER_BYTES_MAX = 256 * 1024
UNLOADS_MAX = 1000  # to make room for one model
ON_DISK_MAX = 500
RESTING_SECONDS = 5.0  # between two looks for a model that can go

Fetch = Callable[[Path], Awaitable[None]]  # put a model's files into a folder, or raise an ApiError
Observe = Callable[[str, str, float], None]  # metric, unit, value
Outcome = tuple[int, str]  # (0, "") once loaded, else what the server said


class ModelShelf:
    def __init__(self, instance: Instance, clock: Callable[[], float] = time.monotonic) -> None:
        self.instance = instance
        self.waiting = 0  # requests that wait for a model to be loaded
        self._clock = clock
        self._used: dict[str, float] = {}  # models in memory, and when each was last asked
        self._asked: dict[str, int] = {}  # requests that each is answering
        self._loading: dict[str, asyncio.Task[Outcome]] = {}
        self._unloading = asyncio.Lock()
        self._rested = asyncio.Event()  # some model has answered all its requests

    @property
    def count(self) -> int:
        """Models in memory."""
        return len(self._used)

    def has(self, name: str) -> bool:
        return name in self._used

    def is_asked(self, name: str) -> bool:
        return bool(self._asked.get(name))

    def started(self, name: str) -> None:
        self._used[name] = self._clock()
        self._asked[name] = self._asked.get(name, 0) + 1

    def finished(self, name: str) -> None:
        left = self._asked.get(name, 0) - 1
        if left > 0:
            self._asked[name] = left
        else:
            self._asked.pop(name, None)
            self._rested.set()

    def forget(self, name: str) -> None:
        self._used.pop(name, None)

    def load(self, name: str, fetch: Fetch, observe: Observe) -> asyncio.Task[Outcome]:
        """Have a model loaded; whoever asks meanwhile waits for the same."""
        task = self._loading.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._load(name, fetch, observe))
            self._loading[name] = task
            task.add_done_callback(lambda _: self._loading.pop(name, None))
        return task

    async def _load(self, name: str, fetch: Fetch, observe: Observe) -> Outcome:
        folder = self._folder(name)
        if not await asyncio.to_thread(folder.is_dir):
            began = time.perf_counter()
            try:
                await self._fetch(name, folder, fetch)
            except OSError as problem:
                return 507, f"The files of the model could not be stored: {problem}."
            observe("ModelDownloadingTime", "Microseconds", (time.perf_counter() - began) * 1e6)
        began = time.perf_counter()
        body = json.dumps({"model_name": name, "url": str(folder)}).encode()
        for _ in range(UNLOADS_MAX):
            status, text = await self._ask("POST", "/models", body, LOADING_SECONDS_MAX)
            if status in (200, 201, 409):
                # 409: another door has loaded it, or this one before it was started again.
                self._used[name] = self._clock()
                observe("ModelLoadingTime", "Microseconds", (time.perf_counter() - began) * 1e6)
                return 0, ""
            if status != 507:
                return status, text
            unloaded = time.perf_counter()
            if not await self.unload_oldest(but=name):
                return status, text
            observe("ModelUnloadingTime", "Microseconds", (time.perf_counter() - unloaded) * 1e6)
        return 507, "There is not enough memory for this model."

    async def _fetch(self, name: str, folder: Path, fetch: Fetch) -> None:
        """Into a folder beside, which then takes its place; once more when the disk was full."""
        await self._make_room(ON_DISK_MAX)
        for attempt in (1, 2):
            fresh = folder.with_name(f"{name}.{uuid.uuid4().hex}")
            try:
                await fetch(fresh)
                await asyncio.to_thread(fresh.rename, folder)
                return
            except OSError as problem:
                if folder.is_dir():
                    return  # another door was quicker
                if problem.errno != errno.ENOSPC or attempt == 2:
                    raise
                await self._make_room(0)
            finally:
                await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)

    async def _make_room(self, kept: int) -> None:
        """Remove the files of models that are not in memory, the oldest first."""
        base = self._base()

        def oldest() -> list[Path]:
            found = [path for path in base.iterdir() if path.suffix == ""]
            if len(found) <= kept:
                return []
            return sorted(found, key=lambda path: path.stat().st_mtime)

        found = await asyncio.to_thread(oldest)
        unused = [path for path in found if path.name not in self._used | self._loading]
        for path in unused[: max(0, len(found) - kept)]:
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)

    async def serves(self, name: str) -> bool:
        """Whether the server has the model, as it says itself."""
        status, _ = await self._ask("GET", f"/models/{name}")
        return status == 200

    async def unload_oldest(self, *, but: str) -> bool:
        """Unload the model that was not asked for longest; False if there is none to unload.

        A model that is answering stays: where all are, the first that has answered goes.
        """
        deadline = self._clock() + LOADING_SECONDS_MAX
        async with self._unloading:
            while True:
                resting = [name for name in self._used if name != but and not self.is_asked(name)]
                if resting:
                    await self._unload(min(resting, key=self._used.__getitem__))
                    return True
                if strangers := await self._strangers(but):
                    await self._unload(strangers[0])
                    return True
                if self._clock() >= deadline or not any(name != but for name in self._used):
                    return False
                self._rested.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RESTING_SECONDS):
                        await self._rested.wait()

    async def _strangers(self, but: str) -> list[str]:
        """Models that the server has and this door knows nothing of: others loaded them."""
        status, text = await self._ask("GET", "/models")
        try:
            models: list[dict[str, Any]] = json.loads(text)["models"] if status == 200 else []
            names = [one["modelName"] for one in models]
            return [name for name in names if name != but and name not in self._used]
        except (ValueError, KeyError, TypeError):
            return []

    async def remove(self, name: str) -> None:
        """Out of memory and off the disk, unless it is asked for again by now."""
        if self.is_asked(name) or name in self._loading:
            return
        try:
            await self._unload(name)
        except UpstreamFailure as problem:
            log.info("a model could not be unloaded: %s", problem)
            return
        if name not in self._used and name not in self._loading:
            await asyncio.to_thread(shutil.rmtree, self._folder(name), ignore_errors=True)

    async def _unload(self, name: str) -> None:
        self._used.pop(name, None)
        status, text = await self._ask("DELETE", f"/models/{name}")
        if status not in (200, 202, 204, 404):
            log.warning("%s did not unload a model: %d %s", self.instance.id, status, text[:200])

    async def _ask(
        self, method: str, path: str, body: bytes = b"", seconds: float = MANAGEMENT_SECONDS
    ) -> tuple[int, str]:
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: model\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode()
        answer = await self.instance.pool.send([head, body], seconds=seconds)
        status = await answer.head()
        content = await answer.read(ANSWER_BYTES_MAX)
        return status, (content or b"").decode("utf-8", "replace")

    def _base(self) -> Path:
        assert self.instance.models is not None, "only multi-model instances have shelves"
        return self.instance.models

    def _folder(self, name: str) -> Path:
        return self._base() / name


def fetch_from(
    store: ObjectStore | None,
    roles: Roles | None,
    role: str,
    bucket: str,
    key: str,
    at_once: asyncio.Semaphore,
) -> Fetch:
    """Download and unpack an archive, if the endpoint's role may read it."""

    def blocking(folder: Path) -> None:
        permitted = roles is not None and roles.permits(
            role, "s3:GetObject", f"arn:aws:s3:::{bucket}/{key}"
        )
        if store is None or not permitted or store.head(bucket, key) is None:
            raise validation_error(
                f"Failed to download model data(bucket: {bucket}, key: {key}). Please ensure that "
                "there is an object located at the URL and that the role passed to CreateModel has "
                "permissions to download the model."
            )
        folder.mkdir(mode=0o755)
        with store.open(bucket, key) as source:
            _unpack(source, folder, bucket, key)

    async def fetch(folder: Path) -> None:
        async with at_once:
            await asyncio.to_thread(blocking, folder)

    return fetch


def _unpack(source: BinaryIO, folder: Path, bucket: str, key: str) -> None:
    try:
        unpack(source, folder)
    except ArchiveFault as problem:
        raise ApiError(
            f"Failed to extract model data archive(bucket: {bucket}, key: {key}): {problem}. "
            "Please ensure that the object is a tar.gz archive.",
            code="ValidationError",
            status=400,
        ) from problem
