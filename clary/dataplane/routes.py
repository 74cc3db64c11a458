"""The routing snapshot: which model servers stand behind an endpoint, as control last wrote it.

The door reads the file and nothing else, so endpoints go on answering while control is down.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clary.dataplane.adapter_settings import AdapterSettings
from clary.dataplane.async_settings import AsyncSettings
from clary.dataplane.capture_settings import CaptureSettings
from clary.dataplane.explainer_settings import ExplainerSettings
from clary.dataplane.lanes import Lanes
from clary.dataplane.upstream import Pool

log = logging.getLogger(__name__)

SNAPSHOT_BYTES_MAX = 64 * 1024 * 1024
TIMEOUT_SECONDS = 60.0
CONNECTIONS_PER_INSTANCE_MAX = 64
WAITING_PER_INSTANCE_MAX = 1024
ANSWER_BYTES_MAX = 6 * 1024 * 1024
PIPELINED_PER_LANE_MAX = 128
LANES_PER_WORKER = 2
LANES_MAX = 64
SERVING_STATUSES = frozenset(
    ("InService", "Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed")
)


@dataclass(frozen=True, slots=True)
class MultiModelSettings:
    """Of a variant with many models: the S3 prefix that TargetModel is relative to."""

    prefix: str
    cached: bool = True  # whether a model stays in memory after it was asked

    @staticmethod
    def parse(entry: dict[str, Any] | None) -> MultiModelSettings | None:
        return MultiModelSettings(entry["prefix"], bool(entry["cached"])) if entry else None


@dataclass(frozen=True, slots=True)
class Instance:
    """One model server: `lanes` carry whole exchanges, `pool` those that are streamed."""

    id: str
    socket: Path
    lanes: Lanes
    pool: Pool
    # Of an instance with several containers, each by its name; the first is this instance's own.
    containers: tuple[tuple[str, Instance], ...] = ()
    models: Path | None = None  # where the models of a multi-model instance are put
    log_id: str = ""  # as the stream of its log names it
    multi_model: MultiModelSettings | None = None  # of one of several containers

    @property
    def outstanding(self) -> int:
        own = self.lanes.outstanding + self.pool.outstanding
        if not self.containers:
            return own
        return own + sum(one.outstanding for _, one in self.containers)

    def take_peak(self) -> int:
        """The most requests at once since this was last asked; of a pipeline, of its busiest container."""
        here = max(self.lanes.peak, self.lanes.outstanding) + self.pool.outstanding
        self.lanes.peak = self.lanes.outstanding
        return max([here, *(one.take_peak() for _, one in self.containers)])

    def close(self) -> None:
        self.lanes.close()
        self.pool.close()
        for _, one in self.containers:
            one.close()


@dataclass(frozen=True, slots=True)
class ServerlessSettings:
    """Of a variant whose hosts start when they are asked for."""

    concurrency: int
    provisioned: int = 0  # hosts that stay up

    @staticmethod
    def parse(entry: dict[str, Any] | None) -> ServerlessSettings | None:
        if not entry:
            return None
        provisioned = int(entry.get("ProvisionedConcurrency") or 0)
        return ServerlessSettings(int(entry["MaxConcurrency"]), provisioned)


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    weight: float
    instances: tuple[Instance, ...]
    timeout_seconds: float
    key: tuple[str, str, str] = ("", "", "")  # region, endpoint, variant: whom metrics count for
    execution: str = ""  # of several containers: "Serial" or "Direct"
    multi_model: MultiModelSettings | None = None
    serverless: ServerlessSettings | None = None
    adapter: AdapterSettings | None = None  # of an adapter component, on the base's instances
    chains_models: bool = False  # whether a container of its pipeline hosts several models

    @property
    def is_able(self) -> bool:
        """Whether it takes requests: a serverless variant does before it has a host."""
        return bool(self.instances) or self.serverless is not None


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
    id: str = ""  # another one when an endpoint is deleted and made again under its name
    role: str = ""
    capture: CaptureSettings | None = None
    explainer: ExplainerSettings | None = None
    inference: AsyncSettings | None = None  # of an asynchronous endpoint
    shadows: tuple[Variant, ...] = ()  # their weight is the share of requests that is copied
    components: dict[str, tuple[Variant, ...]] | None = None  # None where it hosts none
    able: tuple[Variant, ...] = field(init=False)  # the variants that have instances

    def __post_init__(self) -> None:
        able = tuple(variant for variant in self.variants if variant.is_able)
        object.__setattr__(self, "able", able)

    @property
    def everything(self) -> tuple[Variant, ...]:
        """All that has instances."""
        fleets = (self.components or {}).values()
        return (*self.variants, *self.shadows, *(one for fleet in fleets for one in fleet))

    def variant(self, name: str) -> Variant | None:
        """The variant of a name; of an endpoint between two fleets, the one that has more traffic."""
        named = [variant for variant in self.variants if variant.name == name]
        return max(named, key=lambda one: (one.is_able, one.weight), default=None)


class RoutingTable:
    """The current snapshot, read again whenever the file is another one than last time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._routes: dict[tuple[str, str], EndpointRoute] = {}
        self._instances: dict[tuple[str, int], Instance] = {}
        self._looked = False

    def find(self, region: str, name: str) -> EndpointRoute | None:
        self._look()
        return self._routes.get((region, name.lower()))

    def every(self) -> list[EndpointRoute]:
        self._look()
        return list(self._routes.values())

    @property
    def known(self) -> bool:
        """Whether a snapshot was ever read: without one, no endpoint is known to be gone."""
        return self._seen is not None

    def close(self) -> None:
        for instance in self._instances.values():
            instance.close()

    def _look(self) -> None:
        """One `stat` a turn of the event loop is the whole cost of seeing a change at once."""
        if not self._looked:
            self._looked = True
            asyncio.get_running_loop().call_soon(self._turn_over)
            self._refresh()

    def _turn_over(self) -> None:
        self._looked = False

    def _refresh(self) -> None:
        """Read the file if it is another one.

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
        self._drop_unused()

    def _parse(self, document: dict[str, Any]) -> dict[tuple[str, str], EndpointRoute]:
        routes: dict[tuple[str, str], EndpointRoute] = {}
        for key, entry in document["endpoints"].items():
            region, _, name = key.partition("/")
            inference = entry.get("async")
            routes[region, name.lower()] = EndpointRoute(
                region=region,
                name=name,
                arn=entry["arn"],
                account=entry["account"],
                status=entry["status"],
                config=entry.get("config", ""),
                variants=tuple(
                    self._variant(region, name, variant) for variant in entry.get("variants", [])
                ),
                log_group=entry.get("log_group") or f"/aws/sagemaker/Endpoints/{name}",
                asynchronous=bool(inference),
                id=str(entry.get("id", "")),
                role=entry.get("role", ""),
                capture=CaptureSettings.parse(entry.get("capture")),
                explainer=ExplainerSettings.parse(entry.get("explainer")),
                inference=AsyncSettings.parse(inference),
                components=self._components(region, name, entry),
                shadows=tuple(
                    self._variant(region, name, variant) for variant in entry.get("shadows", [])
                ),
            )
        return routes

    def _components(
        self, region: str, endpoint: str, entry: dict[str, Any]
    ) -> dict[str, tuple[Variant, ...]] | None:
        if not entry.get("hosts_components"):
            return None
        return {
            name: tuple(self._variant(region, endpoint, fleet) for fleet in fleets)
            for name, fleets in entry.get("components", {}).items()
        }

    def _variant(self, region: str, endpoint: str, entry: dict[str, Any]) -> Variant:
        return Variant(
            name=entry["name"],
            weight=max(0.0, float(entry.get("weight", 1.0))),
            instances=tuple(
                self._instance(instance, int(entry.get("pipelined_workers") or 0))
                for instance in entry.get("instances", [])
            ),
            timeout_seconds=float(entry.get("timeout_seconds") or TIMEOUT_SECONDS),
            key=(region, endpoint, entry["name"]),
            execution=entry.get("execution") or "",
            multi_model=MultiModelSettings.parse(entry.get("multi_model")),
            serverless=ServerlessSettings.parse(entry.get("serverless")),
            adapter=AdapterSettings.parse(entry.get("adapter")),
            chains_models=any(
                "multi_model" in container
                for instance in entry.get("instances", [])[:1]
                for container in instance.get("containers", [])
            ),
        )

    def _instance(self, entry: dict[str, Any], workers: int) -> Instance:
        key = (entry["socket"], workers)
        instance = self._instances.get(key)
        if instance is None:
            instance = model_server(entry["id"], Path(key[0]), workers, several="models" in entry)
            if "containers" in entry:
                named = tuple((one["name"], _container(one)) for one in entry["containers"])
                instance = replace(instance, containers=named)
            if "log_id" in entry:
                instance = replace(instance, log_id=entry["log_id"])
            if "models" in entry:
                instance = replace(instance, models=Path(entry["models"]))
            self._instances[key] = instance
        return instance

    def _drop_unused(self) -> None:
        used = {
            id(instance)
            for route in self._routes.values()
            for variant in route.everything
            for instance in variant.instances
        }
        for key in [key for key, one in self._instances.items() if id(one) not in used]:
            self._instances.pop(key).close()


def _container(entry: dict[str, Any]) -> Instance:
    workers = int(entry.get("pipelined_workers") or 0)
    several = "models" in entry
    server = model_server(entry["name"], Path(entry["socket"]), workers, several=several)
    if "multi_model" not in entry:
        return server
    settings = MultiModelSettings.parse(entry["multi_model"])
    return replace(server, multi_model=settings, models=Path(entry["models"]))


def model_server(name: str, socket: Path, workers: int, *, several: bool = False) -> Instance:
    """The connections to an instance; `workers` processes answer it if it takes pipelined requests.

    SageMaker's own bound for a container to accept a connection is 250 ms.
    """
    lanes_max = min(LANES_PER_WORKER * workers, LANES_MAX) or CONNECTIONS_PER_INSTANCE_MAX
    if workers == 1 and not several:
        # One process with one model does one thing after another. On one lane, what it was at when
        # it died is the first request, and all others may be sent again.
        lanes_max = 1
    lanes = Lanes(
        socket,
        lanes_max=lanes_max,
        depth=PIPELINED_PER_LANE_MAX if workers else 1,
        waiting_max=WAITING_PER_INSTANCE_MAX,
        body_bytes_max=ANSWER_BYTES_MAX,
        connect_seconds=0.25,
    )
    pool = Pool(
        socket,
        connections_max=CONNECTIONS_PER_INSTANCE_MAX,
        waiting_max=WAITING_PER_INSTANCE_MAX,
        connect_seconds=0.25,
    )
    return Instance(name, socket, lanes, pool)
