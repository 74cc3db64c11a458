"""Where the hosts of a group go: one bundle of a placement group, and one named actor, for each."""

from __future__ import annotations

import contextlib
from typing import Any

import ray  # pyright: ignore[reportMissingImports]
from ray.exceptions import RayActorError  # pyright: ignore[reportMissingImports]
from ray.util.placement_group import (  # pyright: ignore[reportMissingImports]
    placement_group,
    remove_placement_group,
)
from ray.util.scheduling_strategies import (  # pyright: ignore[reportMissingImports]
    PlacementGroupSchedulingStrategy,
)

from clary.executors.ray_files import Group
from clary.executors.ray_host import HostActor


class Placement:
    """Named and detached, so that an agent that was started again finds what its predecessor made."""

    def __init__(self, group: Group, namespace: str, silence_seconds: float) -> None:
        self._group = group
        self._silence_seconds = silence_seconds
        self._name = f"{namespace}/{group.name}"
        self._namespace = namespace
        self._placed: Any = None
        self._ready: Any = None
        self._actors: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}

    def addresses(self) -> dict[str, str] | None:
        """The node's address of each host, once every host has its place; asks for them the first time."""
        if self._placed is None:
            self._placed = self._find() or placement_group(
                [{"CPU": cpus} for cpus in self._group.cpus.values()],
                strategy="SPREAD",
                name=self._name,
                lifetime="detached",
            )
            self._ready = self._placed.ready()
        if not self._asked:
            if not ray.wait([self._ready], timeout=0)[0]:
                return None
            self._actors = {
                host: self._actor(at, host) for at, host in enumerate(self._group.hosts)
            }
            self._asked = {host: one.address.remote() for host, one in self._actors.items()}
        waiting = list(self._asked.values())
        if len(ray.wait(waiting, num_returns=len(waiting), timeout=0)[0]) < len(waiting):
            return None
        try:
            return {host: ray.get(asked) for host, asked in self._asked.items()}
        except RayActorError:
            # Its node died before anything was begun: a new actor gets the name, and another node.
            self._actors, self._asked = {}, {}
            return None

    def _find(self) -> Any:
        with contextlib.suppress(ValueError):
            return ray.util.get_placement_group(self._name)
        return None

    def _actor(self, index: int, host: str) -> Any:
        name = f"{self._name}/{host}"
        return (
            ray.remote(HostActor)
            .options(
                name=name,
                namespace=self._namespace,
                get_if_exists=True,
                lifetime="detached",
                max_restarts=0,
                num_cpus=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(self._placed, index),
            )
            .remote(name, self._silence_seconds)
        )

    def actors(self) -> dict[str, Any]:
        """The actors that are there; None for one that is not."""
        for host in self._group.hosts:
            if host not in self._actors:
                try:
                    name = f"{self._name}/{host}"
                    self._actors[host] = ray.get_actor(name, namespace=self._namespace)
                except ValueError:
                    self._actors[host] = None
        return dict(self._actors)

    def waits_for(self) -> str:
        wanted = ", ".join(f"{host}: {cpus:g} CPUs" for host, cpus in self._group.cpus.items())
        return f"Waiting for capacity on the Ray cluster ({wanted})"

    def remove(self) -> None:
        """Give the room back; actors of which nothing is needed any more end with it."""
        for actor in self._actors.values():
            if actor is not None:
                ray.kill(actor)
        placed = self._placed or self._find()
        if placed is not None:
            remove_placement_group(placed)
