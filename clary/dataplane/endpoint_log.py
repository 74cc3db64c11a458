"""The door's own lines in the log of an endpoint: what went wrong with its invocations, and beside them.

    write ── lines of one stream, gathered for half a second ──▶ one PutLogEvents

However many invocations fail, control is called once or twice a second for each stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from clary.dataplane.role_calls import RoleCalls
from clary.dataplane.routes import EndpointRoute
from clary.dataplane.upstream import UpstreamFailure
from clary.model.errors import ApiError

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.5
LINES_MAX = 1000  # that wait of one stream
STREAM_BYTES_MAX = 1_000_000  # that wait of one stream; a PutLogEvents may hold 1,048,576
WAITING_BYTES_MAX = 32 * 1024 * 1024  # of all streams
STREAMS_MAX = 1000
EVENT_BYTES = 26  # what CloudWatch counts for an event beside its message
ATTEMPTS = 30
PAUSE_SECONDS = 2.0
CLOSE_SECONDS = 2.0
JSON = "application/x-amz-json-1.1"
Event = dict[str, Any]


@dataclass(slots=True)
class _Stream:
    """What waits to be written to one stream."""

    route: EndpointRoute
    name: str
    events: list[Event] = field(default_factory=list[Event])
    size: int = 0
    left_out: int = 0

    def take(self) -> tuple[list[Event], int]:
        """All that waits, in the order of time that CloudWatch asks for, and its size."""
        events, size = self.events, self.size
        if self.left_out:
            events.append(_event(f"{self.left_out} more lines were left out"))
        self.events, self.size, self.left_out = [], 0, 0
        events.sort(key=lambda event: event["timestamp"])
        return events, size


class EndpointLog:
    """Writes lines; control that is away is waited for a minute, and what does not fit is counted."""

    def __init__(self, calls: RoleCalls) -> None:
        self._calls = calls
        self._streams: dict[tuple[str, str, str], _Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting_bytes = 0
        self._closing = asyncio.Event()
        self._is_crowded = False

    def write(self, route: EndpointRoute, stream: str, message: str) -> None:
        """Put a line into a stream of the endpoint's log group, soon."""
        key = (route.region, route.log_group, stream)
        waiting = self._streams.get(key)
        if waiting is None:
            if self._closing.is_set() or len(self._streams) >= STREAMS_MAX:
                self._refuse(route, message)
                return
            waiting = self._streams[key] = _Stream(route, stream)
            task = asyncio.get_running_loop().create_task(self._keep_up(key, waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        size = len(message.encode("utf-8", "replace")) + EVENT_BYTES
        if (
            len(waiting.events) >= LINES_MAX
            or waiting.size + size > STREAM_BYTES_MAX
            or self._waiting_bytes + size > WAITING_BYTES_MAX
        ):
            waiting.left_out += 1
            return
        waiting.route = route  # a later snapshot may name another role
        waiting.events.append(_event(message))
        waiting.size += size
        self._waiting_bytes += size

    async def close(self) -> None:
        """Write what waits, as long as control answers at once."""
        self._closing.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _refuse(self, route: EndpointRoute, message: str) -> None:
        # Once, until there is room again: a flood must not go on in the log of the door.
        if not self._is_crowded:
            self._is_crowded = True
            log.warning("there is no room for lines like this of %s: %s", route.log_group, message)

    async def _keep_up(self, key: tuple[str, str, str], waiting: _Stream) -> None:
        try:
            while waiting.events or waiting.left_out:
                await self._pause(GATHER_SECONDS)
                events, size = waiting.take()
                try:
                    await self._put(waiting.route, waiting.name, events)
                finally:
                    self._waiting_bytes -= size
        finally:
            self._waiting_bytes -= waiting.size
            del self._streams[key]
            self._is_crowded = False

    async def _pause(self, seconds: float) -> None:
        """Wait, but not when the door closes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _put(self, route: EndpointRoute, stream: str, events: list[Event]) -> None:
        place = {"logGroupName": route.log_group, "logStreamName": stream}
        status, text = 0, ""
        for _ in range(ATTEMPTS):
            try:
                status, text = await self._call(
                    route, "PutLogEvents", {**place, "logEvents": events}
                )
                if status == 400 and "ResourceNotFound" in text:
                    status, text = await self._make(route, place)
                    if status < 300:
                        continue
                elif status < 300:
                    return
            except (ApiError, UpstreamFailure) as problem:
                status, text = 0, str(problem)
                if isinstance(problem, ApiError):
                    status = problem.status
            if (400 <= status < 500 and status != 429) or self._closing.is_set():
                break
            await self._pause(PAUSE_SECONDS)
        log.error(
            "%s could not be told %d lines: %d %s; the first is %r",
            *(route.log_group, len(events), status, text, events[0]["message"]),
        )

    async def _make(self, route: EndpointRoute, place: dict[str, str]) -> tuple[int, str]:
        """Make the group and the stream; either may be there, or be made by somebody else meanwhile."""
        group = {"logGroupName": route.log_group}
        status, text = 0, ""
        for operation, document in (("CreateLogGroup", group), ("CreateLogStream", place)):
            status, text = await self._call(route, operation, document)
            if status >= 300 and "AlreadyExists" not in text:
                return status, text
        return 200, ""

    async def _call(
        self, route: EndpointRoute, operation: str, document: dict[str, Any]
    ) -> tuple[int, str]:
        return await self._calls.post(
            "logs",
            route.region,
            {"content-type": JSON, "x-amz-target": f"Logs_20140328.{operation}"},
            json.dumps(document).encode(),
            role_arn=route.role,
            work_arn=route.arn,
        )


def _event(message: str) -> Event:
    return {"timestamp": int(time.time() * 1000), "message": message}
