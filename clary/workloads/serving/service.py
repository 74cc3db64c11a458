"""One serving process: its socket, its connections and how they end.

What the process answers is an *application*: one model (single_model.py) or many (multi_model.py).
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from clary.workloads.serving.heads import Head, Heads
from clary.workloads.serving.http import Connection, Exchange, Site
from clary.workloads.serving.responses import Responses

log = logging.getLogger("clary.serving")

SWEEP_SECONDS = 1.0
LINGER_SECONDS = 2.0
RETIRE_SECONDS = 2.0
# A process that ends so is replaced, and not counted among those that died.
REPLACE_ME = 75


@dataclass(frozen=True)
class Limits:
    """What one serving process allows."""

    body_bytes_max: int = 100 << 20
    connections_max: int = 4096
    request_seconds: float = 60.0
    grace_seconds: float = 30.0
    # How long a model may take to answer; 0 leaves that to the client.
    answer_seconds: float = 0.0
    default_accept: str = "*/*"
    batching: bool = True
    memory_bytes_max: int = 0


class Application(Protocol):
    """What a serving process answers."""

    def route(self, head: Head, body: bytes, exchange: Exchange) -> None:
        """Answer one request, now or when the model has."""
        ...

    def expire(self) -> bool:
        """Answer what has waited too long; True if only a new process can help."""
        ...

    def refuse(self, answer: tuple[int, str, bytes]) -> None:
        """Answer everything that waits."""
        ...

    def close(self) -> None: ...


class Service:
    """Accepts connections and hands their requests to an application until it is told to end."""

    def __init__(
        self,
        make_application: Callable[[asyncio.AbstractEventLoop], Application],
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.limits = limits
        self.loop = loop
        self.application = make_application(loop)
        self._retiring = False
        self._pid = os.getpid()
        self.site = Site(
            route=self.application.route,
            body_max=limits.body_bytes_max,
            connections_max=limits.connections_max,
            heads=Heads(),
            responses=Responses(),
            connections=set(),
            call_soon=loop.call_soon,
        )

    async def run(self, listener: socket.socket) -> int:
        """Serve until SIGTERM or SIGINT, finish what has arrived, and return the exit code."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, stop.set)
        os.register_at_fork(after_in_child=lambda: self._leave_sockets(listener))
        if listener.family == socket.AF_UNIX:
            server = await self.loop.create_unix_server(self._connection, sock=listener)
        else:
            server = await self.loop.create_server(self._connection, sock=listener, backlog=2048)
        sweeper = self.loop.create_task(self._sweep(stop))
        await stop.wait()
        server.close()
        await self._finish()
        sweeper.cancel()
        if self.limits.answer_seconds:
            faulthandler.cancel_dump_traceback_later()
        self.application.close()
        return REPLACE_ME if self._retiring else 0

    def _connection(self) -> Connection:
        return Connection(self.site)

    def _leave_sockets(self, listener: socket.socket) -> None:
        """In a process that a model's code has forked: what it keeps open, no client sees closed."""
        if os.getppid() != self._pid:
            return
        for descriptor in [listener.fileno(), *self.site.descriptors()]:
            if descriptor >= 0:
                os.close(descriptor)

    async def _finish(self) -> None:
        grace = RETIRE_SECONDS if self._retiring else self.limits.grace_seconds
        deadline = self.loop.time() + grace
        for connection in list(self.site.connections):
            connection.finish()
        while self.site.connections and self.loop.time() < deadline:
            await asyncio.sleep(0.02)
        if self.site.connections:
            log.warning("%d connections were cut off at the end.", len(self.site.connections))
        for connection in list(self.site.connections):
            connection.abort()

    async def _sweep(self, stop: asyncio.Event) -> None:
        """End requests that do not arrive in time, and those that are not answered in time."""
        limit = self.limits.answer_seconds
        while True:
            if limit:
                # The last resort where not even this loop runs on: code that holds the
                # interpreter's lock. It ends the process, and with it all connections.
                faulthandler.dump_traceback_later(limit + 4 * SWEEP_SECONDS, exit=True)
            await asyncio.sleep(min(SWEEP_SECONDS, limit / 4) if limit else SWEEP_SECONDS)
            self._sweep_connections(time.monotonic())
            if limit and self.application.expire() and not stop.is_set():
                log.error("The model is stuck: its process is replaced.")
                self._retiring = True
                self.application.refuse(
                    (503, "text/plain", b"The model's process is being replaced.")
                )
                stop.set()

    def _sweep_connections(self, now: float) -> None:
        for connection in list(self.site.connections):
            waited = now - connection.partial_since if connection.partial_since else 0.0
            if connection.lingering and waited > LINGER_SECONDS:
                connection.abort()
            elif waited > self.limits.request_seconds and not connection.closing:
                connection.expire()


def accepted(headers: Any, limits: Limits) -> str:
    """The Accept header, with the environment's default in place of none."""
    accept = headers.get("accept", "*/*")
    return limits.default_accept if accept == "*/*" else accept
