"""What a process answers that serves one model: /ping, /invocations and /execution-parameters."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from clary.workloads.serving.batching import Queue, Ticket
from clary.workloads.serving.handlers import Handler
from clary.workloads.serving.heads import Head
from clary.workloads.serving.http import Exchange
from clary.workloads.serving.service import Limits, accepted

log = logging.getLogger("clary.serving")


class SingleModel:
    """Routes requests to the queue of the one handler."""

    def __init__(self, handler: Handler, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.handler = handler
        self.limits = limits
        self.queue = Queue(handler, loop, batching=limits.batching)

    def route(self, head: Head, body: bytes, exchange: Exchange) -> None:
        """Answer one request, now or when the model has."""
        if head.path == "/invocations" and head.method == "POST":
            headers = head.headers
            self.queue.submit(
                Ticket(
                    body,
                    headers.get("content-type", ""),
                    accepted(headers, self.limits),
                    headers,
                    exchange.reply,
                )
            )
        elif head.path == "/ping" and head.method == "GET":
            exchange.reply((200, "", b"") if self.handler.ping() else (503, "", b""))
        elif head.path == "/execution-parameters" and head.method == "GET":
            exchange.reply(self._execution_parameters())
        elif head.path in ("/ping", "/invocations", "/execution-parameters"):
            exchange.reply((405, "text/plain", b"This method is not allowed here."))
        else:
            exchange.reply((404, "text/plain", b"There is nothing at this path."))

    def expire(self) -> bool:
        """Answer what has waited too long; True if the model is stuck."""
        return self.queue.expire(self.limits.answer_seconds)

    def refuse(self, answer: tuple[int, str, bytes]) -> None:
        """Answer everything that waits."""
        self.queue.refuse(answer)

    def close(self) -> None:
        """Let the model's thread end."""
        self.queue.close()

    def _execution_parameters(self) -> tuple[int, str, bytes]:
        ask: Any = getattr(self.handler, "execution_parameters", None)
        if ask is None:
            return 404, "text/plain", b"The model states no execution parameters."
        try:
            return 200, "application/json", json.dumps(ask()).encode("utf-8")
        except Exception as problem:
            log.exception("The execution parameters could not be told.")
            return 500, "text/plain", f"{type(problem).__name__}: {problem}".encode()
