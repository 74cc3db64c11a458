"""One asynchronous invocation being run: payload from S3, through a model server, result to S3."""

from __future__ import annotations

import asyncio
import io
import logging
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol, cast

from clary.dataplane.async_exchange import NotKept, Reply, exchange
from clary.dataplane.async_requests import ATTEMPTS_MAX, AsyncRequest
from clary.dataplane.role_calls import Roles
from clary.dataplane.routes import EndpointRoute, Instance
from clary.dataplane.upstream import AnswerOverdue, CannotConnect, ConnectionLost
from clary.model.errors import ApiError
from clary.model.s3_uris import parse_s3_uri

log = logging.getLogger(__name__)

PAYLOAD_BYTES_MAX = 1 << 30
IN_MEMORY_BYTES = 1 << 20
EMBEDDED_BYTES_MAX = 128 * 1024  # of a response that a topic is to carry
REASON_BYTES_MAX = 1024


class ObjectStore(Protocol):
    """The part of the object store that payloads and results move through."""

    def head(self, bucket: str, key: str) -> Any: ...
    def open(self, bucket: str, key: str) -> BinaryIO: ...
    def put(
        self,
        bucket: str,
        key: str,
        data: bytes | BinaryIO,
        content_type: str = ...,
        user: Mapping[str, str] | None = ...,
    ) -> object: ...


@dataclass(slots=True)
class Outcome:
    """How it ended. `problem` is empty for a success; the metrics are (name, unit, value)."""

    problem: str
    content_type: str
    response: bytes | None  # where it is short enough to be told
    metrics: list[tuple[str, str, float]]


class Failed(Exception):
    """The request cannot be answered; `body` is what the failure object holds."""

    def __init__(self, reason: str, body: bytes = b"", content_type: str = "text/plain") -> None:
        super().__init__(reason)
        self.body = body or reason.encode()
        self.content_type = content_type


class Run:
    """Runs one request on one instance; raise CannotConnect if the instance was not reached."""

    def __init__(
        self,
        route: EndpointRoute,
        request: AsyncRequest,
        store: ObjectStore,
        roles: Roles | None,
        scratch: Path,
    ) -> None:
        self.route = route
        self.request = request
        self.store = store
        self.roles = roles
        self.scratch = scratch
        self.metrics: list[tuple[str, str, float]] = []

    async def on(self, instance: Instance) -> Outcome:
        started = time.time()
        waited = max(0.0, started - self.request.received)
        try:
            self._check(waited)
            with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=str(self.scratch)) as file:
                reply = await self._ask(instance, file)
                await self._store(self.request.output, file, reply)
                response = await asyncio.to_thread(_embedded, file, reply.size)
        except Failed as problem:
            return await self._fail(problem)
        self._observe("TimeInBacklog", "Milliseconds", waited * 1000)
        self._observe("TotalProcessingTime", "Milliseconds", (time.time() - started) * 1000)
        self._observe("InvocationsProcesssed", "None", 1)  # spelt as SageMaker spells it
        return Outcome("", reply.content_type(), response, self.metrics)

    async def expired(self) -> Outcome:
        """End a request that waited too long to be run at all."""
        try:
            self._check(max(0.0, time.time() - self.request.received))
        except Failed as problem:
            return await self._fail(problem)
        raise AssertionError("the request has not expired")

    def _observe(self, metric: str, unit: str, value: float) -> None:
        self.metrics.append((metric, unit, value))

    def _check(self, waited: float) -> None:
        request = self.request
        if waited > request.ttl_seconds:
            self._observe("ExpiredRequests", "None", 1)
            raise Failed(f"The request expired: it waited for {request.ttl_seconds} seconds.")
        if request.attempt > ATTEMPTS_MAX:
            self._observe("InvocationFailures", "None", 1)
            raise Failed(f"The request was started {ATTEMPTS_MAX} times and never ended.")

    async def _ask(self, instance: Instance, file: IO[bytes]) -> Reply:
        """What the container answers, or the last of a pipeline's; the answer is in `file`."""
        servers = instance.containers or (("primary", instance),)
        payload, size = await self._payload()
        reply = Reply(file)
        headers = dict(self.request.headers)
        accept = headers.pop("accept", "")
        started = time.perf_counter()
        deadline = started + self.request.timeout_seconds
        try:
            for at, (name, server) in enumerate(servers):
                if at:
                    # What one container answered is the next one's request.
                    payload.close()
                    payload = await asyncio.to_thread(_copied, file, str(self.scratch))
                if at + 1 == len(servers) and accept:
                    headers["accept"] = accept
                left = deadline - time.perf_counter()
                reply = await self._exchange(name, server, headers, (payload, size), file, left)
                if not 200 <= reply.status < 300:
                    self._observe("InvocationFailures", "None", 1)
                    raise await _refused(name, reply, file)
                size = reply.size
                headers.pop("content-type", None)
                if kind := reply.content_type():
                    headers["content-type"] = kind
        finally:
            payload.close()
        self._observe("ModelLatency", "Microseconds", (time.perf_counter() - started) * 1e6)
        return reply

    async def _exchange(
        self,
        name: str,
        server: Instance,
        headers: Mapping[str, str],
        payload: tuple[BinaryIO, int],
        file: IO[bytes],
        seconds: float,
    ) -> Reply:
        try:
            return await exchange(server.socket, headers, *payload, file, seconds=seconds)
        except CannotConnect:
            raise
        except AnswerOverdue as problem:
            timeout = self.request.timeout_seconds
            text, cause = f"The invocation timed out after {timeout} seconds.", problem
        except NotKept as problem:
            text, cause = f"The response of container {name} is lost: {problem}", problem
        except ConnectionLost as problem:
            text = f"The connection to container {name} closed before it had answered."
            cause = problem
        self._observe("InvocationFailures", "None", 1)
        raise Failed(text) from cause

    async def _payload(self) -> tuple[BinaryIO, int]:
        if not self.request.input:
            content = self.request.payload()
            return io.BytesIO(content), len(content)
        started = time.perf_counter()
        try:
            self._require("s3:GetObject", self.request.input)
            found = await asyncio.to_thread(self._open)
        except (ApiError, OSError) as problem:
            self._observe("RequestDownloadFailures", "None", 1)
            text = f"Could not download {self.request.input}: {_words(problem)}"
            raise Failed(text[:REASON_BYTES_MAX]) from problem
        self._observe(
            "RequestDownloadLatency", "Microseconds", (time.perf_counter() - started) * 1e6
        )
        return found

    def _open(self) -> tuple[BinaryIO, int]:
        bucket, key = parse_s3_uri(self.request.input)
        info = self.store.head(bucket, key)
        if info is not None and info.size > PAYLOAD_BYTES_MAX:
            text = f"the payload has {info.size} bytes, and at most {PAYLOAD_BYTES_MAX} are allowed"
            raise ApiError(text, code="ValidationError", status=400)
        file = self.store.open(bucket, key)  # raises NoSuchKey
        return file, info.size if info is not None else 0

    async def _store(self, place: str, file: IO[bytes], reply: Reply) -> None:
        started = time.perf_counter()

        def put() -> None:
            file.seek(0)
            content_type = reply.content_type() or "binary/octet-stream"
            # The store reads what it is given and no more: any binary file will do.
            self.store.put(*parse_s3_uri(place), file, content_type)  # type: ignore[arg-type]

        try:
            self._require("s3:PutObject", place)
            await asyncio.to_thread(put)
        except (ApiError, OSError) as problem:
            self._observe("ResponseUploadFailures", "None", 1)
            text = f"Could not upload the response to {place}: {_words(problem)}"
            raise Failed(text[:REASON_BYTES_MAX]) from problem
        self._observe(
            "ResponseUploadLatency", "Microseconds", (time.perf_counter() - started) * 1e6
        )

    async def _fail(self, problem: Failed) -> Outcome:
        place = self.request.failure
        try:
            self._require("s3:PutObject", place)
            await asyncio.to_thread(
                self.store.put, *parse_s3_uri(place), problem.body, problem.content_type
            )
        except (ApiError, OSError) as trouble:
            self._observe("ResponseUploadFailures", "None", 1)
            log.error("the failure of an invocation could not be written to %s: %s", place, trouble)
        response = problem.body if len(problem.body) <= EMBEDDED_BYTES_MAX else None
        return Outcome(str(problem), problem.content_type, response, self.metrics)

    def _require(self, action: str, place: str) -> None:
        """Payloads and results are the endpoint's role's to read and write, whoever invokes."""
        if self.roles is None or not self.route.role:
            return
        bucket, key = parse_s3_uri(place)
        resource = f"arn:aws:s3:::{bucket}/{key}"
        if not self.roles.permits(self.route.role, action, resource):
            text = f"{self.route.role} is not authorized to perform: {action} on {resource}"
            raise ApiError(text, code="AccessDenied", status=403)


async def _refused(name: str, reply: Reply, file: IO[bytes]) -> Failed:
    """The container's own words, whole in the failure object and shortened in the reason."""

    def content() -> bytes:
        file.seek(0)
        return file.read(IN_MEMORY_BYTES)

    body = await asyncio.to_thread(content)
    kind = "client" if 400 <= reply.status < 500 else "server"
    text = body[:REASON_BYTES_MAX].decode("utf-8", "replace")
    reason = f'Received {kind} error ({reply.status}) from {name} with message "{text}".'
    return Failed(reason, body, reply.content_type() or "text/plain")


def _copied(file: IO[bytes], scratch: str) -> BinaryIO:
    """The content of a file in a file of its own; the first is left empty."""
    copy = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=scratch)  # noqa: SIM115
    file.seek(0)
    shutil.copyfileobj(file, copy, IN_MEMORY_BYTES)
    copy.seek(0)
    file.seek(0)
    file.truncate()
    return cast(BinaryIO, copy)


def _embedded(file: IO[bytes], size: int) -> bytes | None:
    if size > EMBEDDED_BYTES_MAX:
        return None
    file.seek(0)
    return file.read()


def _words(problem: Exception) -> str:
    if isinstance(problem, ApiError):
        return f"{problem.code}: {problem.message}"
    return str(problem)
