"""InvokeEndpointAsync: requests wait on disk, are run when an instance is free, and end as objects in S3.

    accept ──▶ queue ──▶ claim ──▶ S3 ──▶ model server ──▶ S3 ──▶ topic

The worker lives in the door: routes, object store and metrics are there already, and a process of
its own would cost as much memory as the door itself. Bulk bytes move in threads, so that
invocations that wait for an answer do not wait for these.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from clary.dataplane.answers import Headers, Send, send_whole
from clary.dataplane.async_log import tell
from clary.dataplane.async_queue import TELLING, AsyncQueue, queue_folder, queue_folders
from clary.dataplane.async_requests import AsyncRequest, notification, parse_request
from clary.dataplane.async_runs import ObjectStore, Outcome, Run
from clary.dataplane.async_topics import Topics
from clary.dataplane.capture import Journal
from clary.dataplane.invocation_errors import validation_error
from clary.dataplane.invocation_metrics import InvocationMetrics
from clary.dataplane.role_calls import Roles
from clary.dataplane.routes import EndpointRoute, Instance, RoutingTable, Variant
from clary.dataplane.serial_containers import DIRECT
from clary.dataplane.upstream import CannotConnect, UpstreamFailure
from clary.model.errors import ApiError, ServiceUnavailable, ThrottlingException
from clary.wire.http import Request

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
RESCAN_SECONDS = 30.0  # for what another process of the door put into a queue
GAUGE_SECONDS = 10.0
GONE_SECONDS = 60.0  # an endpoint must be absent so long before its queue is dropped
PAUSE_SECONDS = 1.0  # after an instance could not be reached
FULL_PAUSE_SECONDS = 10.0  # after the disk of the home refused
ENDING_SECONDS = 1.0  # that runs have to end by themselves when the door stops
BACKLOG_MAX = 100_000  # of one endpoint
RUNS_MAX = 1_000  # at once, of all endpoints
EXPIRED_SCAN_MAX = 100  # requests looked at in one go for having waited too long
TELL_SECONDS_MAX = 3_600.0
TELL_PAUSE_SECONDS = 2.0

Key = tuple[str, str, str]  # region, endpoint in lower case, number of the endpoint


@dataclass(slots=True)
class Backlog:
    """The queue of one endpoint as the worker sees it."""

    key: Key
    queue: AsyncQueue
    waiting: deque[str] = field(default_factory=deque[str])  # names of files, oldest first
    running: dict[Path, int] = field(default_factory=dict[Path, int])  # by instance
    names: set[str] = field(default_factory=set[str])  # waiting or running
    paused_until: float = 0.0
    absent_since: float = 0.0


class AsyncInvocations:
    """Accepts requests for every asynchronous endpoint, and runs them in one process at a time."""

    def __init__(
        self,
        root: Path,
        routes: RoutingTable,
        metrics: InvocationMetrics,
        *,
        store: ObjectStore | None,
        roles: Roles | None = None,
        topics: Topics | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.root = root
        self.routes = routes
        self.metrics = metrics
        self.store = store
        self.roles = roles
        self.topics = topics
        self.journal = journal
        self._backlogs: dict[Key, Backlog] = {}
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._scratch = root / "tmp"
        self._rescanned = 0.0
        self._gauged = 0.0

    # Accepting.

    async def accept(self, route: EndpointRoute, request: Request, send: Send) -> None:
        """Answer 202 once the request is on the disk."""
        if self.store is None:
            raise ServiceUnavailable("This door serves no objects, which results would go to.")
        _refuse_unfit(route)
        asked = parse_request(route, request, time.time())
        backlog = self._backlog((route.region, route.name.lower(), route.id))
        if len(backlog.waiting) >= BACKLOG_MAX:
            raise ThrottlingException(
                f"{BACKLOG_MAX} requests wait for endpoint {route.name} already.", status=429
            )
        try:
            await asyncio.to_thread(backlog.queue.put, asked)
        except OSError as problem:
            log.error("an asynchronous request could not be kept: %s", problem)
            raise ServiceUnavailable(
                "The request could not be kept. Is the disk of Clary's home full?"
            ) from problem
        self._add(backlog, [AsyncQueue.name_of(asked)])
        headers: Headers = [
            (b"content-type", b"application/json"),
            (b"x-amzn-requestid", asked.id.encode()),
            (b"x-amzn-sagemaker-outputlocation", asked.output.encode()),
            (b"x-amzn-sagemaker-failurelocation", asked.failure.encode()),
        ]
        body = json.dumps({"InferenceId": asked.inference_id}).encode()
        await send_whole(send, 202, headers, body)

    def _backlog(self, key: Key) -> Backlog:
        backlog = self._backlogs.get(key)
        if backlog is None:
            region, endpoint, number = key
            queue = AsyncQueue(queue_folder(self.root / "queues", region, endpoint, number))
            backlog = self._backlogs[key] = Backlog(key, queue)
        return backlog

    def _add(self, backlog: Backlog, names: list[str]) -> None:
        for name in names:
            if name not in backlog.names:
                backlog.names.add(name)
                backlog.waiting.append(name)
        self._wake.set()

    # Working.

    async def work_for_ever(self) -> None:
        """Run what waits, until cancelled; what runs then waits for the next time."""
        lock = await self._lock()
        try:
            await asyncio.to_thread(self._prepare)
            await self._scan(recover=True)
            while True:
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
                for backlog in list(self._backlogs.values()):
                    self._start(backlog)
                await self._keep_house()
        finally:
            if self._tasks:  # what is about to end need not be done again
                await asyncio.wait(list(self._tasks), timeout=ENDING_SECONDS)
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            os.close(lock)

    async def _lock(self) -> int:
        """One process of an installation works; the kernel lets go of the lock when it dies."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            except BlockingIOError:
                await asyncio.sleep(LOOK_SECONDS)

    def _prepare(self) -> None:
        self._scratch.mkdir(exist_ok=True, mode=0o700)
        for left in self._scratch.iterdir():
            left.unlink(missing_ok=True)

    async def _scan(self, *, recover: bool = False) -> None:
        """Learn from the disk what waits."""
        self._rescanned = time.monotonic()
        found = await asyncio.to_thread(lambda: list(queue_folders(self.root / "queues")))
        for region, endpoint, number, _ in found:
            backlog = self._backlog((region, endpoint, number))
            if recover:
                await asyncio.to_thread(backlog.queue.recover)
                for name in await asyncio.to_thread(backlog.queue.names, TELLING):
                    self._spawn(self._tell(backlog, name))
            self._add(backlog, await asyncio.to_thread(backlog.queue.names))

    def _start(self, backlog: Backlog) -> None:
        """Start as many requests as the instances of the endpoint have room for."""
        region, endpoint, number = backlog.key
        route = self.routes.find(region, endpoint)
        if route is None or route.id != number:
            return
        if time.monotonic() < backlog.paused_until:
            return
        while backlog.waiting and len(self._tasks) < RUNS_MAX:
            free = _free(route, backlog)
            if free is None:
                return
            variant, instance = free
            name = backlog.waiting.popleft()
            backlog.running[instance.socket] = backlog.running.get(instance.socket, 0) + 1
            self._spawn(self._run(backlog, route, variant, instance, name))

    def _spawn(self, work: object) -> None:
        task = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("an asynchronous invocation failed inside Clary", exc_info=problem)

    async def _run(
        self,
        backlog: Backlog,
        route: EndpointRoute,
        variant: Variant,
        instance: Instance,
        name: str,
    ) -> None:
        assert self.store is not None
        try:
            request = await asyncio.to_thread(backlog.queue.claim, name)
            if request is not None:
                run = Run(route, request, self.store, self.roles, self._scratch)
                outcome = await run.on(instance)
                await self._settle(backlog, route, variant, name, request, outcome)
                tell(self.journal, route, variant, instance, request, outcome)
            backlog.names.discard(name)
        except (CannotConnect, OSError, asyncio.CancelledError) as problem:
            # Nothing came of it that anyone could have seen, or what came could not be kept: it
            # waits in its old place.
            backlog.queue.give_back(name)
            backlog.waiting.appendleft(name)
            pause = PAUSE_SECONDS
            if isinstance(problem, OSError):
                log.error("an asynchronous request is tried again: %s. Is the disk full?", problem)
                pause = FULL_PAUSE_SECONDS
            backlog.paused_until = time.monotonic() + pause
            if isinstance(problem, asyncio.CancelledError):
                raise
        finally:
            backlog.running[instance.socket] -= 1

    async def _settle(
        self,
        backlog: Backlog,
        route: EndpointRoute,
        variant: Variant,
        name: str,
        request: AsyncRequest,
        outcome: Outcome,
    ) -> None:
        """The result is stored: count it, and leave word of what a topic is to be told."""
        for metric, unit, value in outcome.metrics:
            self._observe(metric, route, variant, unit, value)
        told = _told(route, variant, request, outcome)
        await asyncio.to_thread(backlog.queue.finish, name, told)
        if told:
            self._spawn(self._tell(backlog, name))

    def _observe(
        self, metric: str, route: EndpointRoute, variant: Variant, unit: str, value: float
    ) -> None:
        dimensions = (("EndpointName", route.name), ("VariantName", variant.name))
        self.metrics.observe(metric, route.region, dimensions, unit, value)

    # Telling topics.

    async def _tell(self, backlog: Backlog, name: str) -> None:
        """Publish one notification; it is tried for an hour and survives a restart."""
        text = await asyncio.to_thread(backlog.queue.untold, name)
        if not text:
            return
        told = json.loads(text)
        problem = "this door cannot publish" if self.topics is None else ""
        while not problem and self.topics is not None:
            try:
                problem = await self.topics.publish(
                    told["role"], told["arn"], told["topic"], told["message"]
                )
                break
            except ApiError as refusal:
                problem = refusal.message
            except UpstreamFailure as trouble:
                if time.time() > told["until"]:
                    problem = str(trouble)
                else:
                    await asyncio.sleep(TELL_PAUSE_SECONDS)
        if problem:
            log.error("the topic %s could not be told: %s", told["topic"], problem)
            dimensions = (("EndpointName", told["endpoint"]), ("VariantName", told["variant"]))
            self.metrics.observe("NotificationFailures", told["region"], dimensions, "None", 1)
        await asyncio.to_thread(backlog.queue.told, name)

    # Housekeeping.

    async def _keep_house(self) -> None:
        now = time.monotonic()
        if now - self._rescanned >= RESCAN_SECONDS:
            await self._scan()
        if now - self._gauged >= GAUGE_SECONDS:
            self._gauged = now
            for route in self.routes.every():
                if route.asynchronous:  # an empty queue is worth telling, too
                    self._backlog((route.region, route.name.lower(), route.id))
            for backlog in list(self._backlogs.values()):
                await self._look_after(backlog, now)

    async def _look_after(self, backlog: Backlog, now: float) -> None:
        """Gauges and expiry of a queue; or its end, when its endpoint is gone."""
        region, endpoint, number = backlog.key
        route = self.routes.find(region, endpoint)
        if route is not None and route.id == number:
            backlog.absent_since = 0.0
            self._gauge(backlog, route)
            await self._expire(backlog, route)
        elif self.routes.known:
            backlog.absent_since = backlog.absent_since or now
            if now - backlog.absent_since > GONE_SECONDS and not any(backlog.running.values()):
                if backlog.waiting:
                    log.warning(
                        "%d requests of the deleted endpoint %s are dropped",
                        len(backlog.waiting),
                        endpoint,
                    )
                del self._backlogs[backlog.key]
                await asyncio.to_thread(backlog.queue.remove)

    def _gauge(self, backlog: Backlog, route: EndpointRoute) -> None:
        instances = sum(len(variant.instances) for variant in route.variants)
        size = float(len(backlog.names))
        age = max(0.0, time.time() - _received(min(backlog.names))) if backlog.names else 0.0
        for metric, unit, value in (
            ("ApproximateBacklogSize", "Count", size),
            ("ApproximateBacklogSizePerInstance", "Count", size / max(1, instances)),
            ("ApproximateAgeOfOldestRequest", "Seconds", age),
            ("HasBacklogWithoutCapacity", "Count", float(bool(backlog.waiting) and not instances)),
        ):
            dimensions = (("EndpointName", route.name),)
            self.metrics.observe(metric, route.region, dimensions, unit, value)

    async def _expire(self, backlog: Backlog, route: EndpointRoute) -> None:
        """End what waited too long while no instance had room for it."""
        if self.store is None or not route.variants:
            return
        for name in list(backlog.waiting)[:EXPIRED_SCAN_MAX]:
            request = await asyncio.to_thread(backlog.queue.peek, name)
            if request is None or time.time() - request.received <= request.ttl_seconds:
                continue
            if name not in backlog.waiting:
                continue  # it was started meanwhile
            backlog.waiting.remove(name)
            claimed = await asyncio.to_thread(backlog.queue.claim, name)
            if claimed is not None:
                run = Run(route, claimed, self.store, self.roles, self._scratch)
                outcome = await run.expired()
                await self._settle(backlog, route, route.variants[0], name, claimed, outcome)
                tell(self.journal, route, route.variants[0], None, claimed, outcome)
            backlog.names.discard(name)


def _refuse_unfit(route: EndpointRoute) -> None:
    """What SageMaker runs only for callers who wait for the answer."""
    if route.components is not None:
        what = "inference components"
    elif any(variant.multi_model is not None for variant in route.variants):
        what = "several models"
    elif any(variant.execution == DIRECT for variant in route.variants):
        what = "containers in Direct mode"
    else:
        return
    raise validation_error(
        f"Endpoint {route.name} hosts {what}, of which InvokeEndpointAsync can name none."
    )


def _free(route: EndpointRoute, backlog: Backlog) -> tuple[Variant, Instance] | None:
    """The instance with the fewest requests running for its weight, if it may run one more."""
    settings = route.inference
    limit = settings.concurrent_per_instance if settings else 1
    weighted = any(variant.weight > 0 and variant.instances for variant in route.variants)
    best: tuple[Variant, Instance] | None = None
    fewest = float("inf")
    for variant in route.variants:
        if weighted and not variant.weight:
            continue
        for instance in variant.instances:
            count = backlog.running.get(instance.socket, 0)
            share = (count + 1) / (variant.weight or 1.0)
            if count < limit and share < fewest:
                best, fewest = (variant, instance), share
    return best


def _received(name: str) -> float:
    return int(name.partition("-")[0]) / 1e6


def _told(route: EndpointRoute, variant: Variant, request: AsyncRequest, outcome: Outcome) -> bytes:
    """What is to be published, with all that it takes; empty where no topic wants to know."""
    settings = route.inference
    topic = ""
    if settings is not None:
        topic = settings.error_topic if outcome.problem else settings.success_topic
    if settings is None or not topic:
        return b""
    kind = "ERROR" if outcome.problem else "SUCCESS"
    wanted = f"{kind}_NOTIFICATION_TOPIC" in settings.response_in
    message = notification(
        request,
        route.region,
        problem=outcome.problem,
        content_type=outcome.content_type,
        response=outcome.response if wanted else None,
    )
    return json.dumps(
        {
            "topic": topic,
            "role": route.role,
            "arn": route.arn,
            "region": route.region,
            "endpoint": route.name,
            "variant": variant.name,
            "until": time.time() + TELL_SECONDS_MAX,
            "message": json.dumps(message),
        }
    ).encode()
