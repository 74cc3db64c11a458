"""The runtime API: from a signed InvokeEndpoint to a model server's answer.

body ── admit ── route ── variant ── instance ── model server ── answer, or a ModelError ── metrics
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from clary.dataplane.admission import Gatekeeper, admit, as_request, endpoint_name
from clary.dataplane.answers import Headers, Receive, Scope, Send, send_whole
from clary.dataplane.bodies import Body, BodyBudget
from clary.dataplane.dispatch import Route
from clary.dataplane.invocation_errors import (
    ANSWER_TOO_LARGE,
    CONNECTION_CLOSED,
    TIMED_OUT,
    endpoint_not_found,
    endpoint_not_in_service,
    model_error,
    no_capacity,
    validation_error,
    variant_not_found,
)
from clary.dataplane.invocation_metrics import InvocationMetrics
from clary.dataplane.invocation_stream import STREAM_SECONDS_MAX, send_stream
from clary.dataplane.routes import EndpointRoute, Instance, RoutingTable, Variant
from clary.dataplane.upstream import (
    Answer,
    AnswerOverdue,
    CannotConnect,
    ConnectionLost,
    PoolBusy,
)
from clary.model.errors import ApiError, ThrottlingException

PAYLOAD_BYTES_MAX = 6 * 1024 * 1024
SERVING_STATUSES = frozenset(("InService", "Updating", "SystemUpdating", "RollingBack"))
ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
TARGET_VARIANT = b"x-amzn-sagemaker-target-variant"

# What a container gets to see of the client's request.
PASSED_TO_MODEL = frozenset(
    (
        b"content-type",
        b"accept",
        ATTRIBUTES,
        b"x-amzn-sagemaker-inference-id",
        b"x-amzn-sagemaker-session-id",
        b"x-amzn-sagemaker-target-model",
        b"x-amzn-sagemaker-target-container-hostname",
        b"x-amzn-sagemaker-enable-explanations",
        b"x-amzn-sagemaker-inference-component",
    )
)
# What the client gets to see of the container's answer.
PASSED_TO_CLIENT = frozenset(
    (
        b"content-type",
        ATTRIBUTES,
        b"x-amzn-sagemaker-new-session-id",
        b"x-amzn-sagemaker-closed-session-id",
    )
)


@dataclass(slots=True)
class Invocation:
    """One request on its way; the seam at which capture, shadows and components join in later."""

    route: EndpointRoute
    variant: Variant
    request: list[bytes]  # head and body, as the model server receives them
    started: float
    model_seconds: float = 0.0


class Invocations:
    """Answers the runtime API from the routing snapshot; control need not be alive."""

    def __init__(
        self,
        routes: RoutingTable,
        gatekeeper: Gatekeeper,
        metrics: InvocationMetrics,
        *,
        account: str,
        budget: BodyBudget,
        choose: Callable[[], float] = random.random,
    ) -> None:
        self.routes = routes
        self.gatekeeper = gatekeeper
        self.metrics = metrics
        self.account = account
        self.budget = budget
        self.choose = choose

    async def answer(self, found: Route, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call of the runtime API, or raise the ApiError that the client is to see."""
        started = time.perf_counter()
        with Body(self.budget, PAYLOAD_BYTES_MAX, "invocations") as reader:
            body = await reader.read(scope, receive)
            invocation = await self._prepare(found, scope, body, started)
            try:
                if found.action == b"invocations":
                    status = await self._whole(invocation, send)
                else:
                    status = await self._stream(invocation, send)
            except ApiError as problem:
                self._count(invocation, problem)
                raise
        self._count(invocation, status)

    async def _prepare(self, found: Route, scope: Scope, body: bytes, started: float) -> Invocation:
        name = endpoint_name(found.endpoint)
        route = self.routes.find(found.region, name)
        arn = f"arn:aws:sagemaker:{found.region}:{self.account}:endpoint/{name.lower()}"
        streams = found.action == b"invocations-response-stream"
        action = "InvokeEndpointWithResponseStream" if streams else "InvokeEndpoint"
        if found.action == b"async-invocations":
            action = "InvokeEndpointAsync"
        await admit(
            self.gatekeeper,
            as_request(scope, body),
            action=f"sagemaker:{action}",
            resource=route.arn if route else arn,
        )
        if route is None:
            raise endpoint_not_found(name, self.account)
        if route.status not in SERVING_STATUSES:
            raise endpoint_not_in_service(route)
        if route.asynchronous != (action == "InvokeEndpointAsync"):
            kind = "an asynchronous" if route.asynchronous else "a synchronous"
            raise validation_error(
                f"Endpoint {route.name} of account {route.account} is {kind} endpoint and does "
                f"not support {action}."
            )
        headers: Headers = scope["headers"]
        variant = self._variant(route, headers)
        return Invocation(route, variant, [_model_head(headers, len(body)), body], started)

    def _variant(self, route: EndpointRoute, headers: Headers) -> Variant:
        """The variant asked for by name, else one drawn by weight among those with instances."""
        target = next((value for name, value in headers if name == TARGET_VARIANT), b"")
        if target:
            named = route.variant(target.decode("latin-1"))
            if named is None:
                raise variant_not_found(target.decode("latin-1"))
            if not named.instances:
                raise no_capacity(route)
            return named
        able = [variant for variant in route.variants if variant.instances]
        if not able:
            raise no_capacity(route)
        if len(able) == 1:
            return able[0]
        total = sum(variant.weight for variant in able)
        if total <= 0:
            return able[int(self.choose() * len(able))]
        point = self.choose() * total
        for variant in able:
            point -= variant.weight
            if point < 0:
                return variant
        return able[-1]

    async def _whole(self, invocation: Invocation, send: Send) -> int:
        answer = await self._ask(invocation)
        body = await self._read(invocation, answer)
        _raise_unless_success(invocation, answer.status, body)
        await send_whole(send, 200, _client_headers(invocation, answer), body)
        return 200

    async def _stream(self, invocation: Invocation, send: Send) -> int:
        answer = await self._ask(invocation)
        if not 200 <= answer.status < 300:
            body = await self._read(invocation, answer)
            _raise_unless_success(invocation, answer.status, body)
        answer.extend(STREAM_SECONDS_MAX)
        whole = await send_stream(answer, _client_headers(invocation, answer), send)
        return 200 if whole else 500

    async def _ask(self, invocation: Invocation) -> Answer:
        """The head of the model server's answer; a second instance is tried if none was reached."""
        variant = invocation.variant
        tried: Instance | None = None
        for _ in range(2):
            instance = _least_outstanding(variant, self.choose(), tried)
            asked = time.perf_counter()
            try:
                answer = await instance.pool.send(
                    invocation.request, seconds=variant.timeout_seconds
                )
                await answer.head()
                return answer
            except CannotConnect:
                tried = instance
            except PoolBusy as problem:
                raise ThrottlingException(
                    f"Endpoint {invocation.route.name} has too many requests in flight. "
                    "Please try again.",
                    status=429,
                ) from problem
            except (AnswerOverdue, ConnectionLost) as problem:
                raise _broken(invocation, problem) from problem
            finally:
                invocation.model_seconds += time.perf_counter() - asked
        raise no_capacity(invocation.route)

    async def _read(self, invocation: Invocation, answer: Answer) -> bytes:
        asked = time.perf_counter()
        try:
            body = await answer.read(PAYLOAD_BYTES_MAX)
        except (AnswerOverdue, ConnectionLost) as problem:
            raise _broken(invocation, problem) from problem
        finally:
            invocation.model_seconds += time.perf_counter() - asked
        if body is None:
            text = ANSWER_TOO_LARGE.format(container="primary", limit=PAYLOAD_BYTES_MAX)
            raise model_error(invocation.route, 0, text)
        return body

    def _count(self, invocation: Invocation, outcome: int | ApiError) -> None:
        if isinstance(outcome, ApiError):
            original = outcome.members.get("OriginalStatusCode", outcome.status)
            failed = outcome.code == "ModelError"
            status = original or 500  # no answer of the container counts as a server's error
        else:
            status, failed = outcome, outcome != 200
        total = time.perf_counter() - invocation.started
        self.metrics.record(
            invocation.route.region,
            invocation.route.name,
            invocation.variant.name,
            instances=len(invocation.variant.instances),
            status=status,
            model_failed=failed,
            model_seconds=invocation.model_seconds,
            overhead_seconds=total - invocation.model_seconds,
        )


def _least_outstanding(variant: Variant, fraction: float, but: Instance | None) -> Instance:
    """The instance with the fewest requests; equals are told apart by chance."""
    instances = variant.instances
    if len(instances) == 1:
        return instances[0]
    start = int(fraction * len(instances))
    turned = instances[start:] + instances[:start]
    return min(
        (instance for instance in turned if instance is not but),
        key=lambda instance: instance.pool.outstanding,
    )


def _model_head(headers: Headers, body_bytes: int) -> bytes:
    lines = [b"POST /invocations HTTP/1.1", b"host: model"]
    lines += [name + b": " + value for name, value in headers if name in PASSED_TO_MODEL]
    lines.append(b"content-length: %d\r\n\r\n" % body_bytes)
    return b"\r\n".join(lines)


def _client_headers(invocation: Invocation, answer: Answer) -> Headers:
    headers = [(name, value) for name, value in answer.headers if name in PASSED_TO_CLIENT]
    headers.append((b"x-amzn-invoked-production-variant", invocation.variant.name.encode()))
    headers.append((b"x-amzn-requestid", str(uuid.uuid4()).encode()))
    return headers


def _raise_unless_success(invocation: Invocation, status: int, body: bytes) -> None:
    if not 200 <= status < 300:
        raise model_error(invocation.route, status, body.decode("utf-8", "replace"))


def _broken(invocation: Invocation, problem: Exception) -> ApiError:
    words = TIMED_OUT if isinstance(problem, AnswerOverdue) else CONNECTION_CLOSED
    return model_error(invocation.route, 0, words.format(container="primary"))
