"""The door's own lines in the log of an endpoint: what went wrong beside the invocations themselves."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

from clary.dataplane.role_calls import RoleCalls
from clary.dataplane.routes import EndpointRoute
from clary.dataplane.upstream import UpstreamFailure
from clary.model.errors import ApiError

log = logging.getLogger(__name__)

WAITING_MAX = 100
ATTEMPTS = 30
PAUSE_SECONDS = 2.0
JSON = "application/x-amz-json-1.1"


class EndpointLog:
    """Writes single lines, each in a task of its own; control that is away is waited for a minute."""

    def __init__(self, calls: RoleCalls) -> None:
        self._calls = calls
        self._tasks: set[asyncio.Task[None]] = set()

    def write(self, route: EndpointRoute, stream: str, message: str) -> None:
        """Put a line into a stream of the endpoint's log group, soon."""
        if len(self._tasks) >= WAITING_MAX:
            log.warning("too many lines wait for the logs of endpoints: %s", message)
            return
        event = {"timestamp": int(time.time() * 1000), "message": message}
        task = asyncio.get_running_loop().create_task(self._put(route, stream, event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _put(self, route: EndpointRoute, stream: str, event: dict[str, Any]) -> None:
        place = {"logGroupName": route.log_group, "logStreamName": stream}
        status, text = 0, ""
        for _ in range(ATTEMPTS):
            try:
                status, text = await self._call(
                    route, "PutLogEvents", {**place, "logEvents": [event]}
                )
                if status == 400 and "ResourceNotFound" in text:
                    # It is there already, or another line makes it meanwhile: both are well.
                    await self._call(route, "CreateLogGroup", {"logGroupName": route.log_group})
                    await self._call(route, "CreateLogStream", place)
                    continue
                if status < 300:
                    return
            except (ApiError, UpstreamFailure) as problem:
                status, text = 0, str(problem)
                if isinstance(problem, ApiError):
                    status = problem.status
            if 400 <= status < 500 and status != 429:
                break
            await asyncio.sleep(PAUSE_SECONDS)
        log.error("%s could not be told %r: %d %s", route.log_group, event["message"], status, text)

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
