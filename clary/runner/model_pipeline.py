"""The containers of an inference pipeline, as a batch transform calls them: each answer is the next one's request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .model_server import InvocationFault, ModelServer, Reply


class ModelPipeline:
    """As safe as its servers; asked like one of them, but that nothing is streamed through a chain."""

    def __init__(self, servers: Sequence[tuple[str, ModelServer]]) -> None:
        self._servers = servers

    def close(self) -> None:
        for _, server in self._servers:
            server.close()

    def execution_parameters(self) -> dict[str, Any]:
        """How much is sent at once is a matter of the first container."""
        return self._servers[0][1].execution_parameters()

    def invoke(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send one request through all containers; what one refuses is told with its name."""
        reply = Reply(headers.get("content-type", ""), body)
        accept = headers.get("accept", "")
        for number, (name, server) in enumerate(self._servers, 1):
            asked = {"content-type": reply.content_type} if reply.content_type else {}
            # What the job accepts is a matter of the last container.
            if number == len(self._servers) and accept:
                asked["accept"] = accept
            try:
                reply = server.invoke(reply.body, asked)
            except InvocationFault as fault:
                told = f"{fault} (container {name})"
                raise InvocationFault(fault.status, told, fault.said.encode()) from fault
        return reply
