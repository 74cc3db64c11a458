"""The door's process, composed: settings in, a served port out."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

import uvloop

from clary.dataplane.admission import Gatekeeper
from clary.dataplane.answers import Application
from clary.dataplane.async_invocations import AsyncInvocations
from clary.dataplane.async_runs import ObjectStore
from clary.dataplane.async_topics import Topics
from clary.dataplane.authority import Authority, system_bundle
from clary.dataplane.bodies import BodyBudget
from clary.dataplane.capture import Captures
from clary.dataplane.connections import Connections
from clary.dataplane.direct import DirectInvocations
from clary.dataplane.door import Door, serve, stop_on_signals
from clary.dataplane.endpoint_log import EndpointLog
from clary.dataplane.forwarding import ControlLink
from clary.dataplane.gauges import Gauges
from clary.dataplane.invocation_metrics import InvocationMetrics
from clary.dataplane.invocations import Invocations
from clary.dataplane.listener import Listener
from clary.dataplane.multi_model import Models
from clary.dataplane.objects.app import ObjectsApp
from clary.dataplane.role_calls import RoleCalls, Roles
from clary.dataplane.routes import RoutingTable
from clary.dataplane.serverless import Serverless
from clary.dataplane.shortcuts import Shortcuts
from clary.dataplane.tunnel import Tunnels
from clary.settings import Settings

log = logging.getLogger(__name__)

BODIES_BYTES_MAX = 512 * 1024 * 1024  # of all requests together
CANNOT_START = 78  # EX_CONFIG: the supervisor does not start such a child again


def run(
    settings: Settings,
    gatekeeper: Gatekeeper,
    objects: Application | None,
    *,
    store: ObjectStore | None = None,
    roles: Roles | None = None,
) -> int:
    """Serve until SIGTERM; the exit code tells the supervisor whether another try makes sense."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")

    async def until_stopped() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        # Modules stay: no collection looks at them again while requests wait.
        gc.collect()
        gc.freeze()
        await serve_settings(settings, gatekeeper, objects, stop=stop, store=store, roles=roles)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(until_stopped())
    except OSError as problem:
        log.error("cannot serve %s: %s", settings.endpoint_url, problem)
        return CANNOT_START
    return 0


async def serve_settings(
    settings: Settings,
    gatekeeper: Gatekeeper,
    objects: Application | None,
    *,
    stop: asyncio.Event,
    store: ObjectStore | None = None,
    roles: Roles | None = None,
    pass_other_hosts: bool | None = None,
    environment: Mapping[str, str] | None = None,
    restart_seconds: float = 5.0,
    ready: Callable[[int], None] = lambda port: None,
) -> None:
    """Compose and serve the door on the running loop.

    `store` is where captured data and results of asynchronous invocations go, `roles` says what
    the roles of endpoints may do there. CONNECTs to hosts that are not AWS's are passed through by
    default only where the port is reachable from this machine alone: they then reach nothing that
    the client could not reach.
    """
    environment = os.environ if environment is None else environment
    budget = BodyBudget(BODIES_BYTES_MAX)
    control = ControlLink(
        settings.run / "control.sock",
        budget=budget,
        body_bytes_max=settings.body_bytes_max,
        restart_seconds=restart_seconds,
    )
    metrics = InvocationMetrics()
    invocations, gauges = runtime(settings, gatekeeper, metrics, control, budget, store, roles)
    door = Door(control=control, invocations=invocations, objects=objects, gauges=gauges)
    authority = Authority(settings.home / "authority", own_names=own_names(settings.host))
    authority.bundle(system_bundle(environment))
    allowed = is_loopback(settings.host) if pass_other_hosts is None else pass_other_hosts
    tunnels = Tunnels(allowed=allowed, upstream_proxy=upstream_proxy(environment, settings))
    shortcuts = Shortcuts(
        invocations=DirectInvocations(invocations).answer,
        control=control.pass_on,
        objects=objects.answer_now if isinstance(objects, ObjectsApp) else None,
    )
    connections = Connections(door, shortcuts)
    listener = Listener(connections, authority, tunnels)
    await serve(
        door, listener, metrics, host=settings.host, port=settings.port, stop=stop, ready=ready
    )


def runtime(
    settings: Settings,
    gatekeeper: Gatekeeper,
    metrics: InvocationMetrics,
    control: ControlLink,
    budget: BodyBudget,
    store: ObjectStore | None,
    roles: Roles | None,
) -> tuple[Invocations, Gauges]:
    """What answers the runtime API, and what tells how busy it is."""
    routes = RoutingTable(settings.run / "routes.json")
    calls = RoleCalls(control, roles) if roles is not None else None
    journal = EndpointLog(calls) if calls is not None else None
    captures = Captures(store, journal)
    queues = AsyncInvocations(
        settings.home / "async",
        routes,
        metrics,
        store=store,
        roles=roles,
        topics=Topics(calls) if calls is not None else None,
        journal=journal,
    )
    models, serverless = Models(store, roles, metrics), Serverless(routes, control, metrics)
    gauges = Gauges(routes, metrics, models, serverless)
    metrics.gauge = gauges.observe
    invocations = Invocations(
        routes,
        gatekeeper,
        metrics,
        account=settings.account,
        budget=budget,
        captures=captures,
        queues=queues,
        models=models,
        serverless=serverless,
        journal=journal,
    )
    return invocations, gauges


def own_names(host: str) -> tuple[str, ...]:
    """What the door's own certificate says for clients that speak TLS to it directly."""
    local = ("localhost", "127.0.0.1", "::1")
    return local if host in (*local, "", "0.0.0.0", "::") else (*local, host.lower())


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def upstream_proxy(environment: Mapping[str, str], settings: Settings) -> SplitResult | None:
    """The proxy that this machine needs to reach other hosts; never the door itself."""
    text = environment.get("HTTPS_PROXY") or environment.get("https_proxy") or ""
    if not text:
        return None
    found = urlsplit(text if "//" in text else f"http://{text}")
    if not found.hostname or found.scheme != "http":
        log.warning("the proxy %s is not used: only http:// proxies are", found.hostname)
        return None
    if found.port == settings.port and (
        found.hostname == settings.host or is_loopback(found.hostname)
    ):
        return None
    return found
