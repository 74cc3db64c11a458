"""One serving process: routes requests to the queue, ends gracefully."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any

from clary.workloads.serving.batching import Queue, Ticket
from clary.workloads.serving.handlers import Handler
from clary.workloads.serving.http import Connection, Exchange, Head, Heads, Responses, Site

log = logging.getLogger("clary.serving")

SWEEP_SECONDS = 1.0
LINGER_SECONDS = 2.0


@dataclass(frozen=True)
class Limits:
    """What one serving process allows."""

    body_bytes_max: int = 100 << 20
    connections_max: int = 4096
    request_seconds: float = 60.0
    grace_seconds: float = 30.0
    default_accept: str = "*/*"
    batching: bool = True


class Service:
    """Answers /ping, /invocations and /execution-parameters with one handler."""

    def __init__(self, handler: Handler, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.handler = handler
        self.limits = limits
        self.loop = loop
        self.queue = Queue(handler, loop, batching=limits.batching)
        self.site = Site(
            route=self.route,
            body_max=limits.body_bytes_max,
            connections_max=limits.connections_max,
            heads=Heads(),
            responses=Responses(),
            connections=set(),
        )

    def route(self, head: Head, body: bytes, exchange: Exchange) -> None:
        """Answer one request, now or when the model has."""
        if head.path == "/invocations" and head.method == "POST":
            headers = head.headers
            accept = headers.get("accept", "*/*")
            ticket = Ticket(
                body,
                headers.get("content-type", ""),
                self.limits.default_accept if accept == "*/*" else accept,
                headers,
                exchange.reply,
            )
            self.queue.submit(ticket)
        elif head.path == "/ping" and head.method == "GET":
            exchange.reply((200, "", b"") if self.handler.ping() else (503, "", b""))
        elif head.path == "/execution-parameters" and head.method == "GET":
            exchange.reply(self._execution_parameters())
        elif head.path in ("/ping", "/invocations", "/execution-parameters"):
            exchange.reply((405, "text/plain", b"This method is not allowed here."))
        else:
            exchange.reply((404, "text/plain", b"There is nothing at this path."))

    def _execution_parameters(self) -> tuple[int, str, bytes]:
        ask: Any = getattr(self.handler, "execution_parameters", None)
        if ask is None:
            return 404, "text/plain", b"The model states no execution parameters."
        try:
            return 200, "application/json", json.dumps(ask()).encode("utf-8")
        except Exception as problem:
            log.exception("The execution parameters could not be told.")
            return 500, "text/plain", f"{type(problem).__name__}: {problem}".encode()

    async def run(self, listener: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT, then finish what has arrived."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, stop.set)
        if listener.family == socket.AF_UNIX:
            server = await self.loop.create_unix_server(self._connection, sock=listener)
        else:
            server = await self.loop.create_server(self._connection, sock=listener, backlog=2048)
        sweeper = self.loop.create_task(self._sweep())
        await stop.wait()
        server.close()
        await self._finish()
        sweeper.cancel()
        self.queue.close()

    def _connection(self) -> Connection:
        return Connection(self.site)

    async def _finish(self) -> None:
        deadline = self.loop.time() + self.limits.grace_seconds
        for connection in list(self.site.connections):
            connection.finish()
        while self.site.connections and self.loop.time() < deadline:
            await asyncio.sleep(0.02)
        if self.site.connections:
            log.warning("%d connections were cut off at the end.", len(self.site.connections))
        for connection in list(self.site.connections):
            connection.abort()

    async def _sweep(self) -> None:
        """End requests that do not arrive in time, and refused ones that do not stop arriving."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for connection in list(self.site.connections):
                waited = now - connection.partial_since if connection.partial_since else 0.0
                if connection.lingering and waited > LINGER_SECONDS:
                    connection.abort()
                elif waited > self.limits.request_seconds and not connection.closing:
                    connection.expire()
