"""The door: the ASGI application behind the public port, and the process that serves it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from clary import __version__
from clary.dataplane.answers import (
    Application,
    Receive,
    Scope,
    Send,
    send_error,
    send_json,
    send_whole,
)
from clary.dataplane.bodies import ClientGone
from clary.dataplane.dispatch import Destination, route
from clary.dataplane.exposition import CONTENT_TYPE, exposition
from clary.dataplane.forwarding import ControlLink
from clary.dataplane.gauges import Gauges
from clary.dataplane.invocation_metrics import InvocationMetrics
from clary.dataplane.invocations import Invocations
from clary.dataplane.listener import Listener
from clary.dataplane.upstream import UpstreamFailure
from clary.model.errors import ApiError, InternalFailure, NotImplementedException

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 10.0
# Control's other internal routes are for the door and the runners on this machine alone.
FORWARDED_INTERNAL = (b"/_clary/credentials",)


@dataclass(frozen=True, slots=True)
class Door:
    """Sends each request to the part that answers it and words what goes wrong on the way."""

    control: ControlLink
    invocations: Invocations
    objects: Application | None = None
    gauges: Gauges | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: dict[str, object]) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._answer(scope, receive, watched)
        except ClientGone:
            return
        except ApiError as problem:
            await _fail(scope, send, problem, started=started)
        except UpstreamFailure as problem:
            # The head of an answer was out already: only a broken connection tells the client.
            log.warning("an answer broke off: %s", problem)
            raise
        except Exception as problem:
            log.exception("the door failed on %s %s", scope["method"], scope["path"])
            error = InternalFailure("The request failed inside Clary; see the log of the door.")
            if started:
                raise
            await _fail(scope, send, error.with_traceback(problem.__traceback__), started=False)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = route(scope)
        match found.destination:
            case Destination.CONTROL:
                await self.control.forward(scope, receive, send)
            case Destination.INVOCATION:
                await self.invocations.answer(found, scope, receive, send)
            case Destination.OBJECTS:
                if self.objects is None:
                    raise NotImplementedException("This door serves no objects.", status=501)
                await self.objects(scope, receive, send)
            case Destination.INTERNAL:
                await self._internal(scope, receive, send)

    async def _internal(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["raw_path"]
        if path == b"/_clary/health":
            await self._health(send)
        elif path == b"/_clary/metrics" and scope["method"] == "GET":
            await self._metrics(scope, send)
        elif path in FORWARDED_INTERNAL:
            await self.control.forward(scope, receive, send)
        else:
            await send_json(send, 404, {"message": "Clary has no such route."})

    async def _metrics(self, scope: Scope, send: Send) -> None:
        """For Prometheus, which signs nothing: it must ask from this machine."""
        client = scope.get("client")
        if not client or not ip_address(client[0]).is_loopback:
            await send_json(send, 403, {"message": "Metrics are told to this machine only."})
            return
        metrics, captures = self.invocations.metrics, self.invocations.captures
        metrics.collect()
        others = {
            "clary_captured_records_total": captures.captured,
            "clary_capture_dropped_records_total": captures.dropped,
        }
        body = exposition(metrics.totals, others, self.gauges.rows() if self.gauges else ())
        await send_whole(send, 200, [(b"content-type", CONTENT_TYPE)], body)

    async def _health(self, send: Send) -> None:
        """200 only while control answers as well; the body tells which part is missing."""
        document = {"version": __version__, "door": {"status": "ok", "pid": os.getpid()}}
        healthy = False
        try:
            status, body = await self.control.ask("GET", "/_clary/health")
            healthy = status == 200
            control = json.loads(body) if body.startswith(b"{") else {}
            document["control"] = {"status": "ok" if healthy else "failing", **control}
        except (UpstreamFailure, ValueError) as problem:
            document["control"] = {"status": "away", "message": str(problem)}
        document["status"] = "ok" if healthy else "degraded"
        await send_json(send, 200 if healthy else 503, document)


async def _fail(scope: Scope, send: Send, problem: ApiError, *, started: bool) -> None:
    if started:
        raise problem
    await send_error(scope, send, problem)


async def serve(
    door: Door,
    listener: Listener,
    metrics: InvocationMetrics,
    *,
    host: str,
    port: int,
    stop: asyncio.Event,
    ready: Callable[[int], None] = lambda port: None,
) -> None:
    """Listen until `stop` is set, then let requests end. OSError if the port is taken."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(listener, host, port, backlog=1024)
    tasks = [
        loop.create_task(metrics.post_for_ever(door.control)),
        loop.create_task(listener.connections.sweep()),
        loop.create_task(door.invocations.captures.flush_for_ever()),
        loop.create_task(door.invocations.queues.work_for_ever()),
    ]
    try:
        ready(server.sockets[0].getsockname()[1])
        await stop.wait()
    finally:
        server.close()
        await listener.connections.finish(SHUTDOWN_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                await door.invocations.captures.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await metrics.post(door.control)
        listener.close()
        door.control.close()
        door.invocations.routes.close()


def stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
