"""Control: the composition root, the only module that knows every part."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clary.companions import application_autoscaling, cloudwatch_alarms, logs_groups
from clary.engine.call import Parts
from clary.engine.chores import Chore, Chores
from clary.engine.preparations import Preparations
from clary.engine.registry import Registry, discover
from clary.engine.resource import BoundResource
from clary.engine.work_credentials import issue_for_work, renew_for_work
from clary.engine.world import EngineWorld
from clary.executors.contract import Executor
from clary.executors.ray_cluster import RayExecutor
from clary.executors.sandbox import SandboxExecutor
from clary.gateway.audit import Trail
from clary.gateway.chain import Chain
from clary.gateway.internal import Internal
from clary.gateway.listener import PATIENCE_SECONDS, Listener
from clary.identity import first_start
from clary.identity.authenticate import Authenticator
from clary.identity.authorise import Authoriser
from clary.identity.principals import Principal
from clary.identity.sealing import install_key
from clary.images import catalogue
from clary.images.image import Image
from clary.model.service import Services
from clary.reconcile.loop import Loop, Planned
from clary.resources.inference import endpoint_alarms, inference_experiment_course, serverless
from clary.settings import Settings
from clary.store import metric_data
from clary.store.database import Store
from clary.store.objects import Objects
from clary.wire.http import Request, Response

if TYPE_CHECKING:
    from clary.store.external_objects import ExternalObjects

log = logging.getLogger("clary")

PACKAGES = ("clary.resources", "clary.companions")


@dataclass
class Server(Parts):
    """Control's parts, joined; `parts` of every call."""

    settings: Settings
    clock: Callable[[], float] = time.time
    store: Store = field(init=False)
    telemetry: Store = field(init=False)
    objects: Objects | ExternalObjects = field(init=False)
    registry: Registry = field(init=False)

    def __post_init__(self) -> None:
        home = self.settings.home
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.settings.run.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Kinds and companions first: those that keep tables of their own declare them when imported.
        services = Services()
        self.registry = discover(services, PACKAGES)
        self.store = _open_store(self.settings, "clary.db", self.clock)
        self.telemetry = _open_store(self.settings, "telemetry.db", self.clock)
        self.objects = _open_objects(self.settings)
        first_start.prepare(self.store, self.settings, self.clock)
        self._install_key = install_key(home)
        self.authoriser = Authoriser(self.store, self.settings, self.clock)
        self.trail = Trail(home / "audit")
        self.chain = Chain(
            services=services,
            registry=self.registry,
            authenticator=Authenticator(
                self.store, self.settings, self._install_key, self.clock, records_use=True
            ),
            authoriser=self.authoriser,
            trail=self.trail,
            parts=self,
            account=self.settings.account,
        )
        self.executor = _executor(self.settings)
        self.preparations = Preparations(self.settings, self.image, self.wake, self.objects.open)
        self.world = EngineWorld(self.registry, self, self.executor, self.preparations)
        self.loop = Loop(self.store.rows, _planned(self.registry), self.world, self.clock)
        self.chores = Chores(self._chores())
        self.internal = Internal(
            renew=self._renew, put_metrics=self._put_metrics, note_use=self._note_use
        )
        self.listener = Listener(
            self.settings.run / "control.sock",
            self.answer,
            self.settings.body_bytes_max,
            # Calls that wait for another machine's database should wait side by side.
            patience_seconds=0.0 if self.settings.database_url else PATIENCE_SECONDS,
        )

    def answer(self, request: Request) -> Response:
        if request.path.startswith("/_clary/"):
            return self.internal.handle(request)
        return self.chain.handle(request)

    def start(self) -> None:
        for bound in self.registry.resources.values():
            if bound.resource.publishing is not None:
                with bound.resource.publishing(self, {}):
                    pass  # as it is stored: an earlier control may have died before it told
        self._hints = _listen_for_hints(self.settings, self.wake)
        self.loop.start()
        self.chores.start()
        self.listener.start()

    def close(self) -> None:
        """Stop answering and deciding; the work that runs goes on under its runners."""
        self.listener.close()
        self._hints.shutdown(socket.SHUT_RDWR)
        self._hints.close()
        self.loop.close()
        self.world.close()
        self.chores.close()
        self.preparations.close()
        self.trail.close()
        self.store.close()
        self.telemetry.close()

    def call(
        self,
        service: str,
        operation: str,
        request: dict[str, Any],
        *,
        principal: Principal,
        region: str,
    ) -> dict[str, Any]:
        return self.chain.call(service, operation, request, principal, region)

    def bound(self, noun: str) -> BoundResource:
        return self.registry.resources[noun]

    def image(self, uri: str) -> Image:
        return catalogue.resolve(uri, self.settings)

    def work_credentials(self, role_arn: str, work_arn: str) -> dict[str, Any]:
        return issue_for_work(
            self.store, self.settings.account, self._install_key, role_arn, work_arn, self.clock()
        )

    def wake(self) -> None:
        self.loop.wake()

    def _chores(self) -> list[Chore]:
        def alarms() -> int:
            return cloudwatch_alarms.evaluate_all(self, self.clock())

        def retention() -> int:
            return logs_groups.purge(self, self.clock())

        def deployments() -> int:
            return endpoint_alarms.watch_deployments(self, self.clock())

        def experiments() -> int:
            return inference_experiment_course.watch_experiments(self, self.clock())

        def scaling() -> int:
            return application_autoscaling.scale_all(self, self.clock())

        def roll_up() -> int:
            return metric_data.roll_up(self.telemetry, self.clock())

        return [
            Chore("alarms", 10.0, alarms),
            Chore("alarms of deployments", 5.0, deployments),
            Chore("inference experiments", 2.0, experiments),
            Chore("application autoscaling", 10.0, scaling),
            Chore("log retention", 300.0, retention),
            Chore("metric roll-up", 300.0, roll_up),
        ]

    def _renew(self, token: str) -> dict[str, Any]:
        return renew_for_work(
            self.store, self.settings.account, self._install_key, token, self.clock()
        )

    def _note_use(self, used: list[dict[str, str]]) -> None:
        serverless.note_use(self, used, self.clock())

    def _put_metrics(self, batch: list[dict[str, Any]]) -> None:
        metric_data.put_statistics(self.telemetry, self.settings, batch)


def _executor(settings: Settings) -> Executor:
    return RayExecutor(settings) if settings.executor == "ray" else SandboxExecutor(settings)


def _planned(registry: Registry) -> dict[str, Planned]:
    return {
        noun: Planned(bound.resource.plan, bound.resource.lifecycle)
        for noun, bound in registry.resources.items()
        if bound.resource.plan is not None
    }


def _open_objects(settings: Settings) -> Objects | ExternalObjects:
    if settings.object_store_url:
        # boto3 comes with it, which an installation with files of its own does not need.
        from clary.store.external_objects import ExternalEndpoint, ExternalObjects

        return ExternalObjects(ExternalEndpoint.load(settings.object_store_url, os.environ))
    return Objects(
        settings.home / "objects", region=settings.region, durable=settings.objects_durable
    )


def _open_store(settings: Settings, name: str, clock: Callable[[], float]) -> Store:
    url = settings.database_url or f"sqlite:///{settings.home / name}"
    return Store.open(url, settings.sqlite_synchronous, clock=clock)


def _listen_for_hints(settings: Settings, wake: Callable[[], None]) -> socket.socket:
    """Runners send an empty datagram when they wrote something; each one shortens the loop's wait."""
    path = settings.run / "wake.sock"
    path.unlink(missing_ok=True)
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(path))
    path.chmod(0o600)

    def listen() -> None:
        while True:
            try:
                receiver.recv(64)
            except OSError:
                return  # closed under us: that is how `close` ends this thread
            wake()

    threading.Thread(target=listen, name="hints", daemon=True).start()
    return receiver


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    server = Server(Settings.load())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    gc.freeze()  # the models and kinds stay: no collection looks at them again
    log.info("control answers at %s", server.settings.run / "control.sock")
    stop.wait()
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
