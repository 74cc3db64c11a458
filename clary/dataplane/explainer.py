"""Online explainability at the door: a request is answered by its model, then explained by a process of its own.

    client ── model server ── explainer process ⇄ model server ── {"predictions", "explanations"} ── client
The door only passes lines to the explainer and back, so that other endpoints do not wait for it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from clary.dataplane.answer_heads import AnswerHead
from clary.dataplane.invocation import CONTENT_TYPE, Invocation
from clary.dataplane.invocation_errors import model_error
from clary.dataplane.invocation_metrics import InvocationMetrics
from clary.model.errors import ApiError, ThrottlingException

log = logging.getLogger(__name__)

EXPRESSION = "x-amzn-sagemaker-enable-explanations"
WAITING_MAX = 64
LINE_BYTES_MAX = 64 * 1024 * 1024
# The explainer itself gives up in time; this is for one that hangs.
EXTRA_SECONDS = 5.0
NAME = "clarify-explainer"  # as errors name it

Told = Callable[[dict[str, Any]], None]


class Explainers:
    """The explainer process, started when it is first needed, and the requests that wait for it."""

    def __init__(self, metrics: InvocationMetrics) -> None:
        self.metrics = metrics
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Told] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, job: Mapping[str, Any], seconds: float, told: Told) -> None:
        """Have a request explained; `told` hears once what came of it. Raise ThrottlingException."""
        if len(self._waiting) >= WAITING_MAX:
            raise ThrottlingException(
                f"{WAITING_MAX} explanations are being computed already. Please try again.",
                status=429,
            )
        number = next(self._numbers)
        self._waiting[number] = told
        self._begin(self._send(number, {**job, "id": number, "seconds": seconds}))
        asyncio.get_running_loop().call_later(seconds + EXTRA_SECONDS, self._overdue, number)

    async def _send(self, number: int, job: dict[str, Any]) -> None:
        try:
            async with self._starting:
                process = await self._running()
            assert process.stdin is not None, "started with a pipe"
            process.stdin.write(orjson.dumps(job) + b"\n")
            await process.stdin.drain()
        except OSError as problem:
            self._tell(number, _lost(f"The explainer could not be asked: {problem}"))

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "clary.dataplane.explainer_worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LINE_BYTES_MAX,
            )
            self._begin(self._listen(self._process))
        return self._process

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None, "started with a pipe"
        try:
            while line := await process.stdout.readline():
                answer = orjson.loads(line)
                self._tell(answer["id"], answer)
        except ValueError as problem:
            log.error("the explainer's answer cannot be read: %s", problem)
            process.kill()
        await process.wait()
        if process is self._process:
            self._process = None
        for number in list(self._waiting):
            self._tell(number, _lost("The explainer ended; see the log of the door."))

    def _tell(self, number: int, answer: dict[str, Any]) -> None:
        told = self._waiting.pop(number, None)
        if told is not None:
            told(answer)

    def _overdue(self, number: int) -> None:
        self._tell(number, _lost("The explainer did not answer in time."))

    def _begin(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _lost(text: str) -> dict[str, Any]:
    return {"status": 500, "error": text}


class ExplainedInvocation(Invocation):
    """A request whose answer is not the model's alone."""

    __slots__ = ("explainers",)
    whole_only = "its answers are explained"

    def __init__(self, explainers: Explainers, *members: Any) -> None:
        super().__init__(*members)
        self.explainers = explainers

    def answered(self, head: AnswerHead, body: bytes | None) -> None:
        if body is None or not 200 <= head.status < 300:
            super().answered(head, body)
            return
        settings, instance = self.route.explainer, self.instance
        assert settings is not None and instance is not None
        output_type = next((value for name, value in head.headers if name == b"content-type"), b"")
        job = {
            "config": settings.config,
            "baseline": settings.baseline,
            "expression": self.headers.get(EXPRESSION, ""),
            "content_type": self.headers.get(CONTENT_TYPE, ""),
            "body": self.body.decode("utf-8", "replace"),
            "output_type": output_type.decode("latin-1"),
            "output": body.decode("utf-8", "replace"),
            "socket": str(instance.socket),
            "accept": self.headers.get("accept", ""),
        }
        seconds = self.variant.timeout_seconds - (time.perf_counter() - self.started)
        try:
            self.explainers.submit(job, max(0.0, seconds), self._explained)
        except ApiError as problem:
            self.settled.failed(self, problem)

    def _explained(self, told: dict[str, Any]) -> None:
        self.model_seconds += time.perf_counter() - self.sent
        if "error" in told:
            problem = model_error(self.route, told["status"], told["error"], container=NAME)
            self.settled.failed(self, problem)
            return
        region, endpoint, variant = self.variant.key
        dimensions = (("EndpointName", endpoint), ("VariantName", variant))
        share = told["explained"] / max(1, len(self.variant.instances))
        self.explainers.metrics.observe(
            "ExplanationsPerInstance", region, dimensions, "None", share
        )
        head = AnswerHead(200, [(b"content-type", b"application/json")])
        self.settled.succeeded(self, head, orjson.dumps(told["answer"]))
