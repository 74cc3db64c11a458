"""The runtime API: from a signed InvokeEndpoint to a model server's answer.

body ── admit ── route ── variant ── instance ── model server ── answer, or a ModelError ── metrics, capture

Small requests come straight from their connection (`begin`), all others through ASGI (`answer`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from clary.dataplane import failed_invocations
from clary.dataplane.adapters import Adapters
from clary.dataplane.admission import Gatekeeper, admit, as_request, endpoint_name
from clary.dataplane.answer_heads import AnswerHead
from clary.dataplane.answers import Headers, Receive, Scope, Send, send_whole
from clary.dataplane.async_invocations import AsyncInvocations
from clary.dataplane.bodies import Body, BodyBudget
from clary.dataplane.capture import Captures, Journal
from clary.dataplane.components import COMPONENT, component_variants
from clary.dataplane.dispatch import Route
from clary.dataplane.explainer import Explainers
from clary.dataplane.invocation import (
    INSTANCES_TRIED_MAX,
    Done,
    Invocation,
    Settled,
    failure,
)
from clary.dataplane.invocation_errors import (
    endpoint_not_found,
    endpoint_not_in_service,
    model_error,
    no_capacity,
    validation_error,
    variant_not_found,
)
from clary.dataplane.invocation_kinds import Kinds
from clary.dataplane.invocation_metrics import InvocationMetrics
from clary.dataplane.invocation_stream import STREAM_SECONDS_MAX, send_stream
from clary.dataplane.multi_model import Models
from clary.dataplane.request_ids import unique_id
from clary.dataplane.routes import SERVING_STATUSES, EndpointRoute, RoutingTable, Variant
from clary.dataplane.serverless import Serverless
from clary.dataplane.shadow import Unheard, nobody
from clary.dataplane.upstream import Answer, CannotConnect, UpstreamFailure
from clary.model.errors import ApiError
from clary.wire.http import Request

PAYLOAD_BYTES_MAX = 6 * 1024 * 1024
REQUEST_ID = b"x-amzn-requestid"
TARGET_VARIANT = "x-amzn-sagemaker-target-variant"
ACTIONS = {
    b"invocations": "InvokeEndpoint",
    b"invocations-response-stream": "InvokeEndpointWithResponseStream",
    b"async-invocations": "InvokeEndpointAsync",
}
# What the client gets to see of the container's answer.
PASSED_TO_CLIENT = frozenset(
    (
        b"content-type",
        b"x-amzn-sagemaker-custom-attributes",
        b"x-amzn-sagemaker-new-session-id",
        b"x-amzn-sagemaker-closed-session-id",
    )
)


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
        captures: Captures,
        queues: AsyncInvocations,
        models: Models | None = None,
        serverless: Serverless | None = None,
        journal: Journal | None = None,
        choose: Callable[[], float] = random.random,
    ) -> None:
        self.routes = routes
        self.gatekeeper = gatekeeper
        self.metrics = metrics
        self.account = account
        self.budget = budget
        self.captures = captures
        self.journal = journal  # closed with the captures, which use it too
        self.queues = queues
        models = models or Models(None, None, metrics)
        self.kinds = Kinds(
            models,
            serverless or Serverless(routes, None, metrics),
            metrics,
            Explainers(metrics),
            Adapters(models),
        )
        self.choose = choose
        self.unheard = Unheard(self, choose)

    def begin(self, route: EndpointRoute, request: Request, started: float, done: Done) -> None:
        """Admit and send a small request; raise an ApiError, or tell `done` how it ended."""
        self.gatekeeper(request, action="sagemaker:InvokeEndpoint", resource=route.arn)
        self._send(self._serving(route, route.name, "InvokeEndpoint"), request, started, done)

    async def answer(self, found: Route, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call of the runtime API, or raise the ApiError that the client is to see."""
        started = time.perf_counter()
        name, action = endpoint_name(found.endpoint), ACTIONS[found.action]
        with Body(self.budget, PAYLOAD_BYTES_MAX, "invocations") as reader:
            request = as_request(scope, await reader.read(scope, receive))
            route = self.routes.find(found.region, name)
            resource = route.arn if route is not None else self._arn(found.region, name)
            await admit(self.gatekeeper, request, action=f"sagemaker:{action}", resource=resource)
            route = self._serving(route, name, action)
            if action == "InvokeEndpoint":
                await self._whole(route, request, started, send)
            elif action == "InvokeEndpointAsync":
                await self.queues.accept(route, request, send)
            else:
                await self._stream(route, request, started, send)

    def _arn(self, region: str, name: str) -> str:
        return f"arn:aws:sagemaker:{region}:{self.account}:endpoint/{name.lower()}"

    def _serving(self, route: EndpointRoute | None, name: str, action: str) -> EndpointRoute:
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
        return route

    def _send(self, route: EndpointRoute, request: Request, started: float, done: Done) -> None:
        invocation = self._invocation(route, request, started, done)
        try:
            invocation.send(self.choose)
        except ApiError as problem:
            self.count(invocation, problem)
            raise
        if route.shadows:
            self._shadow(route, request, started)

    def _shadow(self, route: EndpointRoute, request: Request, started: float) -> None:
        def make(route: EndpointRoute, shadow: Variant, settled: Settled) -> Invocation:
            return self.kinds.invocation(route, shadow, request, started, settled, nobody)

        self.unheard.copy(route, make)

    def _invocation(
        self, route: EndpointRoute, request: Request, started: float, done: Done
    ) -> Invocation:
        if route.components is not None or COMPONENT in request.headers:
            able = component_variants(route, request.headers.get(COMPONENT, ""))
            variant = able[0] if len(able) == 1 else draw(able, self.choose)
        else:
            variant = self._variant(route, request.headers.get(TARGET_VARIANT, ""))
        return self.kinds.invocation(route, variant, request, started, self, done)

    def _variant(self, route: EndpointRoute, target: str) -> Variant:
        """The variant asked for by name, else one drawn by weight among those with instances."""
        if target:
            named = route.variant(target)
            if named is None:
                raise variant_not_found(target)
            if not named.is_able:
                raise no_capacity(route)
            return named
        able = route.able
        if not able:
            raise no_capacity(route)
        return able[0] if len(able) == 1 else draw(able, self.choose)

    async def _whole(
        self, route: EndpointRoute, request: Request, started: float, send: Send
    ) -> None:
        ended: asyncio.Future[tuple[Invocation, AnswerHead | ApiError, bytes]]
        ended = asyncio.get_running_loop().create_future()

        def done(invocation: Invocation, outcome: AnswerHead | ApiError, content: bytes) -> None:
            if not ended.done():
                ended.set_result((invocation, outcome, content))

        self._send(route, request, started, done)
        invocation, outcome, content = await ended
        if isinstance(outcome, ApiError):
            raise outcome
        await send_whole(send, 200, client_headers(invocation, outcome.headers), content)

    async def _stream(
        self, route: EndpointRoute, request: Request, started: float, send: Send
    ) -> None:
        invocation = self._invocation(route, request, started, _nobody)
        if invocation.whole_only:
            raise validation_error(
                f"Endpoint {route.name} does not support InvokeEndpointWithResponseStream: "
                f"{invocation.whole_only}."
            )
        try:
            answer = await self._ask(invocation)
            self._observe_first_chunk(invocation)
            answer.extend(STREAM_SECONDS_MAX)
            headers = client_headers(invocation, answer.headers)
            whole = await send_stream(answer, headers, send)
        except ApiError as problem:
            self.count(invocation, problem)
            raise
        broken: ApiError | None = None
        if not whole:
            broken = model_error(route, 500, "StreamBroken")
            broken.request_id = dict(headers)[REQUEST_ID].decode()
        self.count(invocation, broken)
        self._observe(invocation, "MidStreamErrors", "None", float(not whole))

    def _observe_first_chunk(self, invocation: Invocation) -> None:
        """A model server sends the head of a stream along with its first piece."""
        total = time.perf_counter() - invocation.started
        model = invocation.model_seconds
        for metric, seconds in (
            ("FirstChunkLatency", total),
            ("FirstChunkModelLatency", model),
            ("FirstChunkOverheadLatency", total - model),
        ):
            self._observe(invocation, metric, "Microseconds", max(0.0, seconds) * 1e6)

    def _observe(self, invocation: Invocation, metric: str, unit: str, value: float) -> None:
        region, endpoint, variant = invocation.variant.key
        dimensions = (("EndpointName", endpoint), ("VariantName", variant))
        self.metrics.observe(metric, region, dimensions, unit, value)

    async def _ask(self, invocation: Invocation) -> Answer:
        """The head of a successful answer; a second instance is tried if none was reached."""
        try:
            while True:
                instance = invocation.choose(self.choose)
                try:
                    answer = await instance.pool.send(
                        invocation.request, seconds=invocation.variant.timeout_seconds
                    )
                    await answer.head()
                    break
                except CannotConnect:
                    if invocation.tried >= INSTANCES_TRIED_MAX:
                        raise
            invocation.noted(answer.status, answer.headers)
            if not 200 <= answer.status < 300:
                text = (await answer.read(PAYLOAD_BYTES_MAX) or b"").decode("utf-8", "replace")
                raise invocation.refused(answer.status, text)
            return answer
        except UpstreamFailure as problem:
            raise failure(invocation.route, problem, invocation.container) from problem
        finally:
            invocation.model_seconds += time.perf_counter() - invocation.sent

    # What invocations tell.

    def succeeded(self, invocation: Invocation, head: AnswerHead, body: bytes) -> None:
        self.count(invocation, None)
        invocation.done(invocation, head, body)
        route = invocation.route
        if route.capture is not None:
            self.captures.offer(
                route, invocation.variant.name, invocation.headers, invocation.body, head, body
            )

    def failed(self, invocation: Invocation, problem: ApiError) -> None:
        self.count(invocation, problem)
        invocation.done(invocation, problem, b"")

    def again(self, invocation: Invocation) -> None:
        try:
            invocation.send(self.choose)
        except ApiError as problem:
            self.failed(invocation, problem)

    def count(self, invocation: Invocation, problem: ApiError | None) -> None:
        status = 200
        if problem is not None:
            # No answer of the container counts as an error of the server.
            status = problem.members.get("OriginalStatusCode", problem.status) or 500
            if problem.code == "ModelError":
                failed_invocations.tell(self.journal, invocation, problem)
        total = time.perf_counter() - invocation.started
        variant = invocation.variant
        self.metrics.record(
            variant.key,
            len(variant.instances),
            status,
            problem is not None and problem.code == "ModelError",
            invocation.model_seconds,
            total - invocation.model_seconds,
        )


def draw(variants: tuple[Variant, ...], choose: Callable[[], float]) -> Variant:
    """One of several variants, each as likely as its weight says."""
    total = sum(variant.weight for variant in variants)
    if total <= 0:
        return variants[int(choose() * len(variants))]
    point = choose() * total
    for variant in variants:
        point -= variant.weight
        if point < 0:
            return variant
    return variants[-1]


def client_headers(invocation: Invocation, headers: Headers) -> Headers:
    passed = [(name, value) for name, value in headers if name in PASSED_TO_CLIENT]
    passed.append((b"x-amzn-invoked-production-variant", invocation.variant.name.encode()))
    passed.append((REQUEST_ID, unique_id().encode()))
    return passed


def _nobody(invocation: Invocation, outcome: AnswerHead | ApiError, content: bytes) -> None:
    """Of an answer that is streamed, nobody waits for the whole."""
