"""One invocation on its way: which instance is asked, what comes back, and who is told."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from clary.dataplane.answer_heads import AnswerHead
from clary.dataplane.invocation_errors import (
    ANSWER_TOO_LARGE,
    CONNECTION_CLOSED,
    TIMED_OUT,
    model_error,
    no_capacity,
)
from clary.dataplane.routes import ANSWER_BYTES_MAX, EndpointRoute, Instance, Variant
from clary.dataplane.upstream import (
    AnswerOverdue,
    CannotConnect,
    Headers,
    NotBegun,
    PoolBusy,
    UpstreamFailure,
)
from clary.model.errors import ApiError, InternalFailure, ThrottlingException

log = logging.getLogger(__name__)

INSTANCES_TRIED_MAX = 2
BEHIND_CRASHES_TRIED_MAX = 20
AGAIN_SECONDS = (0.02, 0.25)
CONTENT_TYPE = "content-type"


class Invocation:
    """A request and what became of it. `settled` is told once how it ended, and then tells `done`."""

    __slots__ = (
        "body",
        "done",
        "headers",
        "instance",
        "model_seconds",
        "request",
        "route",
        "sent",
        "settled",
        "started",
        "tried",
        "variant",
    )

    server_path = "/invocations"
    container = "primary"  # as errors name it
    whole_only = ""  # why InvokeEndpointWithResponseStream cannot be answered, if so

    def __init__(
        self,
        route: EndpointRoute,
        variant: Variant,
        headers: Mapping[str, str],
        body: bytes,
        started: float,
        settled: Settled,
        done: Done,
    ) -> None:
        self.route = route
        self.variant = variant
        self.headers = headers
        self.body = body
        self.request = [model_head(headers, len(body), path=self.server_path), body]
        self.started = started
        self.settled = settled
        self.done = done
        self.sent = 0.0
        self.model_seconds = 0.0
        self.tried = 0
        self.instance: Instance | None = None

    def choose(self, choose: Callable[[], float]) -> Instance:
        """The instance to ask, another one than the last time if there are several."""
        instances = self.variant.instances
        if len(instances) == 1:
            instance = instances[0]
        else:
            instance = least_outstanding(instances, choose(), self.instance)
        self.instance = instance
        self.tried += 1
        self.sent = time.perf_counter()
        return instance

    def send(self, choose: Callable[[], float]) -> None:
        """Ask an instance; raise an ApiError where too many wait for it."""
        instance = self.choose(choose)
        try:
            instance.lanes.submit(self, self.request, self.variant.timeout_seconds)
        except PoolBusy as problem:
            raise too_busy(self.route) from problem

    # What the lanes tell.

    def answered(self, head: AnswerHead, body: bytes | None) -> None:
        self.model_seconds += time.perf_counter() - self.sent
        self.noted(head.status, head.headers)
        if body is None:
            text = ANSWER_TOO_LARGE.format(container=self.container, limit=ANSWER_BYTES_MAX)
            self.settled.failed(self, self.refused(0, text))
        elif 200 <= head.status < 300:
            self.settled.succeeded(self, head, body)
        else:
            text = body.decode("utf-8", "replace")
            self.settled.failed(self, self.refused(head.status, text))

    def noted(self, status: int, headers: Headers) -> None:
        """The head of the answer has come, whole or to be streamed."""

    def refused(self, status: int, text: str) -> ApiError:
        """What the client gets of an answer that is an error."""
        return model_error(self.route, status, text, container=self.container)

    def failed(self, problem: UpstreamFailure) -> None:
        self.model_seconds += time.perf_counter() - self.sent
        if isinstance(problem, CannotConnect) and self.tried < INSTANCES_TRIED_MAX:
            self.settled.again(self)
        elif isinstance(problem, NotBegun) and self._may_wait_again():
            # A process of the server died of one of its requests, perhaps of this one: all at once
            # again, they would meet it again.
            pause = random.uniform(*AGAIN_SECONDS)
            asyncio.get_running_loop().call_later(pause, self.settled.again, self)
        else:
            self.settled.failed(self, failure(self.route, problem, self.container))

    def _may_wait_again(self) -> bool:
        waited = time.perf_counter() - self.started
        return self.tried < BEHIND_CRASHES_TRIED_MAX and waited < self.variant.timeout_seconds


# Told the head and body of a successful answer, or an error.
Done = Callable[[Invocation, AnswerHead | ApiError, bytes], None]


class Settled(Protocol):
    """Who is told how an invocation ended, on the event loop."""

    def succeeded(self, invocation: Invocation, head: AnswerHead, body: bytes) -> None: ...
    def failed(self, invocation: Invocation, problem: ApiError) -> None: ...
    def again(self, invocation: Invocation) -> None:
        """Nothing was sent, or nothing came of it: another instance may be asked."""
        ...


async def settling(invocation: Invocation, work: Awaitable[None]) -> None:
    """Do the work that an invocation waits for: whatever becomes of it, the client is told."""
    try:
        await work
    except ApiError as problem:
        invocation.settled.failed(invocation, problem)
    except UpstreamFailure as problem:
        invocation.settled.failed(invocation, failure(invocation.route, problem))
    except Exception:
        log.exception("an invocation of endpoint %s failed inside Clary", invocation.route.name)
        text = "The request failed inside Clary; see the log of the door."
        invocation.settled.failed(invocation, InternalFailure(text))


def failure(route: EndpointRoute, problem: UpstreamFailure, container: str = "primary") -> ApiError:
    """What the client sees of a model server that could not be asked or did not answer."""
    if isinstance(problem, CannotConnect):
        return no_capacity(route)
    if isinstance(problem, PoolBusy):
        return too_busy(route)
    words = TIMED_OUT if isinstance(problem, AnswerOverdue) else CONNECTION_CLOSED
    return model_error(route, 0, words.format(container=container), container=container)


def too_busy(route: EndpointRoute) -> ThrottlingException:
    return ThrottlingException(
        f"Endpoint {route.name} has too many requests in flight. Please try again.", status=429
    )


def least_outstanding(
    instances: tuple[Instance, ...], fraction: float, but: Instance | None
) -> Instance:
    """The instance with the fewest requests; equals are told apart by chance."""
    start = int(fraction * len(instances))
    turned = instances[start:] + instances[:start]
    return min(
        (instance for instance in turned if instance is not but),
        key=lambda instance: instance.outstanding,
    )


# What a container gets to see of the client's request.
PASSED_TO_MODEL = (
    "content-type",
    "accept",
    "x-amzn-sagemaker-custom-attributes",
    "x-amzn-sagemaker-inference-id",
    "x-amzn-sagemaker-session-id",
    "x-amzn-sagemaker-target-model",
    "x-amzn-sagemaker-target-container-hostname",
    "x-amzn-sagemaker-enable-explanations",
    "x-amzn-sagemaker-inference-component",
)


def model_head(headers: Mapping[str, str], body_bytes: int, *, path: str = "/invocations") -> bytes:
    """The head that a model server receives."""
    lines = "".join([f"{name}: {headers[name]}\r\n" for name in PASSED_TO_MODEL if name in headers])
    head = f"POST {path} HTTP/1.1\r\nhost: model\r\n{lines}content-length: {body_bytes}\r\n\r\n"
    return head.encode("latin-1")
