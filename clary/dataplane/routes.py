"""The routing snapshot: which model servers stand behind an endpoint, as control last wrote it.

The door reads the file and nothing else, so endpoints go on answering while control is down.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clary.dataplane.upstream import Pool

log = logging.getLogger(__name__)

SNAPSHOT_BYTES_MAX = 64 * 1024 * 1024
TIMEOUT_SECONDS = 60.0
CONNECTIONS_PER_INSTANCE_MAX = 64
WAITING_PER_INSTANCE_MAX = 1024


@dataclass(frozen=True, slots=True)
class Instance:
    id: str
    pool: Pool


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    weight: float
    instances: tuple[Instance, ...]
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class EndpointRoute:
    region: str
    name: str
    arn: str
    account: str
    status: str
    config: str
    variants: tuple[Variant, ...]
    log_group: str
    asynchronous: bool = False

    def variant(self, name: str) -> Variant | None:
        return next((variant for variant in self.variants if variant.name == name), None)


class RoutingTable:
    """The current snapshot, read again whenever the file is another one than last time."""

    def __init__(self, path: Path, *, make_pool: Callable[[Path], Pool] | None = None) -> None:
        self.path = path
        self._make_pool = make_pool or model_server_pool
        self._seen: tuple[int, int, int] | None = None
        self._routes: dict[tuple[str, str], EndpointRoute] = {}
        self._pools: dict[str, Pool] = {}

    def find(self, region: str, name: str) -> EndpointRoute | None:
        self._refresh()
        return self._routes.get((region, name.lower()))

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    def _refresh(self) -> None:
        """One `stat` a request is the whole cost of seeing a change at once.

        A missing or unreadable file keeps the last good routes: control replaces it atomically, so
        its absence says nothing about the endpoints.
        """
        try:
            status = self.path.stat()
        except OSError:
            return
        seen = (status.st_mtime_ns, status.st_ino, status.st_size)
        if seen == self._seen:
            return
        self._seen = seen
        if status.st_size > SNAPSHOT_BYTES_MAX:
            log.error("the routing snapshot %s is too large; the old routes stay", self.path)
            return
        try:
            routes = self._parse(json.loads(self.path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            log.error("the routing snapshot is unreadable (%r); the old routes stay", problem)
            return
        self._routes = routes
        self._drop_unused_pools()

    def _parse(self, document: dict[str, Any]) -> dict[tuple[str, str], EndpointRoute]:
        routes = {}
        for key, entry in document["endpoints"].items():
            region, _, name = key.partition("/")
            routes[region, name.lower()] = EndpointRoute(
                region=region,
                name=name,
                arn=entry["arn"],
                account=entry["account"],
                status=entry["status"],
                config=entry.get("config", ""),
                variants=tuple(self._variant(variant) for variant in entry.get("variants", [])),
                log_group=entry.get("log_group") or f"/aws/sagemaker/Endpoints/{name}",
                asynchronous=bool(entry.get("async")),
            )
        return routes

    def _variant(self, entry: dict[str, Any]) -> Variant:
        return Variant(
            name=entry["name"],
            weight=max(0.0, float(entry.get("weight", 1.0))),
            instances=tuple(
                Instance(instance["id"], self._pool(instance["socket"]))
                for instance in entry.get("instances", [])
            ),
            timeout_seconds=float(entry.get("timeout_seconds") or TIMEOUT_SECONDS),
        )

    def _pool(self, socket: str) -> Pool:
        pool = self._pools.get(socket)
        if pool is None:
            pool = self._pools[socket] = self._make_pool(Path(socket))
        return pool

    def _drop_unused_pools(self) -> None:
        used = {
            id(instance.pool)
            for route in self._routes.values()
            for variant in route.variants
            for instance in variant.instances
        }
        for socket in [name for name, pool in self._pools.items() if id(pool) not in used]:
            self._pools.pop(socket).close()


def model_server_pool(socket: Path) -> Pool:
    return Pool(
        socket,
        connections_max=CONNECTIONS_PER_INSTANCE_MAX,
        waiting_max=WAITING_PER_INSTANCE_MAX,
        connect_seconds=0.25,  # SageMaker's own bound for a container to accept a connection
    )
