"""Control's one link to a Ray cluster: a process of its own, run with a Python that has Ray.

    control ── a file per group of hosts ──▶ agent ── actors, placement ──▶ Ray
            ◀── state.json, outcome.json ──       ◀── the cluster's store ──

All that it knows is in files or in the cluster, so it may be killed at any instant and started again; it
ends itself on a trouble that it does not understand, and when nothing was to be done for a while.
`python -m clary.executors.ray_agent RUN_FOLDER ADDRESS NAMESPACE WAKE_SOCKET SILENCE_SECONDS`
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray  # pyright: ignore[reportMissingImports]
from ray.exceptions import RayActorError, RayError  # pyright: ignore[reportMissingImports]

from clary.executors import ray_host, ray_store
from clary.executors.ray_files import LOCK, PULSE, Group, packed_code, read_groups
from clary.executors.ray_placement import Placement
from clary.runner import locks, progress, sockets

_LOOK_SECONDS = 0.1
_IDLE_SECONDS_MAX = 300.0
_PING_SECONDS = 2.0
# An actor that died on a node that lives: what it ran was killed with it, and needs a moment to be gone.
_DEAD_SECONDS = 3.0
_SILENCES = 3  # a host that does not answer for so many times what it may be cut off is given up


class _Host:
    """A host that was begun; `lost_at` is when it counts as lost if nothing is heard of it till then.

    A host that was given up is never taken back, whatever it says later, but for its outcome in time:
    it was ordered to end, and the order stays until all hosts of its group have ended. From then on
    it finds no order, which means the same.
    """

    def __init__(
        self, name: str, directory: Path, actor: Any, address: str, silence_seconds: float
    ) -> None:
        self.name = name
        self._address = address
        self._silence_seconds = silence_seconds
        self.directory = directory
        self.actor = actor
        self.ended = (directory / "outcome.json").exists()
        self.began = time.time()
        self._state = b""
        self._halted = False
        self._fenced = False
        self._others: list[str] = []
        self._ordered: tuple[bool, bool, list[str]] | None = None
        self._ping: Any = None
        self._pinged_at = 0.0
        self._answered_at = time.monotonic()
        self._lost_at = float("inf")
        self._why = ""
        if actor is None and address and not self.ended:
            self._dies("its actor is not on the cluster any more")

    def begin(self, spec: dict[str, Any]) -> None:
        """Have it run, if it does not run yet; it looks for its order first."""
        if self.actor is not None and not self.ended:
            self._halted = (self.directory / "halt").exists()
            self._order()
            self.actor.begin.remote(spec, packed_code(Path(spec["program"]["code"])))

    def look(self, others: list[str]) -> bool:
        """Bring the host's files up to date; True when they changed. `others` of its job have ended."""
        self._others = others
        if self.ended:
            return False
        found = ray_store.get_value(self.name, "outcome")
        if found is not None:
            return self._end(json.loads(found))
        self._halted = self._halted or (self.directory / "halt").exists()
        self._listen()
        self._order()
        if time.monotonic() > self._lost_at:
            # The last look at the outcome came before the proof that no more will come.
            found = ray_store.get_value(self.name, "outcome")
            lost = ray_store.outcome("lost", self.began, f"the host was lost: {self._why}")
            return self._end(json.loads(found) if found else lost)
        state = ray_store.get_value(self.name, "state")
        if state is None or state == self._state:
            return False
        self._state = state
        return _replace(self.directory, "state.json", json.loads(state))

    def end_unstarted(self, result: str, words: str) -> None:
        self._end(ray_store.outcome(result, time.time(), words))

    def _end(self, outcome: dict[str, Any]) -> bool:
        _replace(self.directory, "outcome.json", outcome, durable=True)
        self.ended = True
        return True

    def _order(self) -> None:
        wanted = (self._halted, self._fenced, self._others)
        if wanted != self._ordered:
            ray_store.order(self.name, halt=wanted[0], fence=wanted[1], ended=wanted[2])
            self._ordered = wanted

    def _listen(self) -> None:
        now = time.monotonic()
        if self._fenced:
            return
        if self._ping is None and now > self._pinged_at + _PING_SECONDS:
            self._ping, self._pinged_at = self.actor.ping.remote(), now
        if self._ping is not None and ray.wait([self._ping], timeout=0)[0]:
            asked, self._ping = self._ping, None
            try:
                ray.get(asked)
                self._answered_at = now
            except RayActorError as problem:
                if type(problem).__name__ != "ActorUnavailableError":
                    self._dies(str(problem).splitlines()[0])
                    return
        silent_seconds = _SILENCES * self._silence_seconds
        if now > self._answered_at + silent_seconds:
            why = f"its node {self._address} has not answered for {silent_seconds:g} s"
            self._give_up(why, ray_host.fence_seconds(self._silence_seconds))

    def _dies(self, why: str) -> None:
        nodes = ray.nodes()
        if any(one["Alive"] and one["NodeManagerAddress"] == self._address for one in nodes):
            self._give_up(why, _DEAD_SECONDS)
            return
        # A node that is dead to Ray may be cut off only: its hosts need time to find out, and to end.
        why = f"its node {self._address} is gone from the Ray cluster"
        self._give_up(why, ray_host.fence_seconds(self._silence_seconds))

    def _give_up(self, why: str, seconds: float) -> None:
        """It counts as lost after so long, counted from the moment that its order says so."""
        self._fenced, self._why = True, why
        self._order()
        self._lost_at = time.monotonic() + seconds


def _replace(directory: Path, name: str, document: Any, *, durable: bool = False) -> bool:
    """Write a file of a host's directory, unless the host was forgotten meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        progress.replace(directory / name, document, durable=durable)
        return True
    return False


class _Running:
    """A group of hosts on the cluster, from its placement to the last outcome."""

    def __init__(self, group: Group, namespace: str, silence_seconds: float) -> None:
        self.group = group
        self._namespace = namespace
        self._silence_seconds = silence_seconds
        self._placement = Placement(group, namespace, silence_seconds)
        self._hosts: list[_Host] | None = None

    def look(self) -> bool:
        """True when a file of a host changed."""
        if self._hosts is None:
            return self._begin()
        ended = [host.directory.name for host in self._hosts if host.ended]
        changed = [host.look(ended) for host in self._hosts]
        return any(changed)

    def is_over(self) -> bool:
        return self._hosts is not None and all(host.ended for host in self._hosts)

    def _begin(self) -> bool:
        group = self.group
        if group.has_begun():
            self._hosts = self._known(self._placement.actors())
            for host in self._hosts:
                host.begin(self._spec(host.directory, group.addresses()))
            return False
        if any((directory / "halt").exists() for directory in group.hosts.values()):
            # Not one of them has run: a job that was stopped before it began never begins.
            self._hosts = self._known(dict.fromkeys(group.hosts))
            for host in self._hosts:
                host.end_unstarted("stopped", "")
            return True
        addresses = self._placement.addresses()
        if addresses is None:
            return self._wait()
        group.begin(addresses)
        return False

    def _wait(self) -> bool:
        words = self._placement.waits_for()
        state = {"phase": "Pending", "phases": [("Pending", time.time())], "message": words}
        state |= {"ready": False, "metrics": {}}
        changed = False
        for directory in self.group.hosts.values():
            if not (directory / "state.json").exists():
                changed |= _replace(directory, "state.json", state)
        return changed

    def _known(self, actors: dict[str, Any]) -> list[_Host]:
        addresses = self.group.addresses() if self.group.has_begun() else {}
        name = f"{self._namespace}/{self.group.name}"
        return [
            _Host(
                f"{name}/{host}",
                directory,
                actors[host],
                addresses.get(host, ""),
                self._silence_seconds,
            )
            for host, directory in self.group.hosts.items()
        ]

    def _spec(self, directory: Path, addresses: dict[str, str]) -> dict[str, Any]:
        return {**json.loads((directory / "ray.json").read_bytes()), "addresses": addresses}

    def clean(self) -> None:
        self._placement.remove()
        for host in self._hosts or []:
            ray_store.erase(host.name)
        self.group.remove()


def _serve(folder: Path, wake: str, running_of: Callable[[Group], _Running]) -> None:
    running: dict[str, _Running] = {}
    try:
        _attend(folder, wake, running_of, running)
    finally:
        if not folder.is_dir():
            # The installation was removed: nobody will ask for these hosts any more.
            for one in running.values():
                one.clean()


def _attend(
    folder: Path,
    wake: str,
    running_of: Callable[[Group], _Running],
    running: dict[str, _Running],
) -> None:
    busy_at = time.monotonic()
    while folder.is_dir() and time.monotonic() < busy_at + _IDLE_SECONDS_MAX:
        for group in read_groups(folder, running):
            running[group.name] = running_of(group)
        changed = False
        for name, one in list(running.items()):
            changed |= one.look()
            if one.is_over():
                one.clean()
                del running[name]
        if running:
            busy_at = time.monotonic()
        progress.replace(folder / PULSE, {"at": time.time(), "pid": os.getpid()}, durable=False)
        if changed:
            sockets.poke(wake)
        time.sleep(_LOOK_SECONDS)


def main(arguments: list[str]) -> int:
    folder, address, namespace, wake, silence = arguments
    held = locks.take(str(Path(folder) / LOCK))
    if held is None:
        return 0
    try:
        ray.init(address, namespace=namespace, log_to_driver=False, logging_level="warning")
        for module in (ray_host, ray_store):
            ray.cloudpickle.register_pickle_by_value(module)
        _serve(Path(folder), wake, lambda group: _Running(group, namespace, float(silence)))
    except (RayError, OSError, RuntimeError, ValueError) as problem:
        print(f"{time.ctime()}: {type(problem).__name__}: {problem}", file=sys.stderr, flush=True)
        return 1
    finally:
        with contextlib.suppress(FileNotFoundError):
            (Path(folder) / PULSE).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
