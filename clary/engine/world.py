"""The world as the loop sees it: hosts of an executor, environments of images, the API, and the machine's slots."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clary.engine.call import Parts
from clary.engine.host_specs import host_directory
from clary.engine.preparations import Preparations
from clary.engine.registry import Registry
from clary.executors.contract import Executor
from clary.identity.principals import service_principal
from clary.reconcile.decisions import Call
from clary.reconcile.observations import Exited, Observation
from clary.reconcile.seen import READY, Preparation
from clary.store.rows import Row


class EngineWorld:
    """Joins the declarations' `hosts` and `images` to the executor; keeps count of the slots in use."""

    def __init__(
        self, registry: Registry, parts: Parts, executor: Executor, preparations: Preparations
    ) -> None:
        self._registry = registry
        self._parts = parts
        self._executor = executor
        self._preparations = preparations
        self._slots = parts.settings.slots or 2 * (os.cpu_count() or 1)
        self._taken: dict[int, int] = {}  # row id -> hosts that run
        self._watched: dict[int, dict[Path, tuple[int, ...]]] = {}
        self._guard = threading.Lock()

    def observe(self, row: Row) -> dict[str, Observation]:
        keys = row.state.get("hosts", {})
        directories = {key: host_directory(self._parts.settings, row, key) for key in keys}
        self._watch(row, directories.values())
        looks = self._executor.observe(list(directories.values()))
        seen = dict(zip(directories, looks, strict=True))
        if self._resource(row).takes_slots:
            open_hosts = sum(not isinstance(one, Exited) for one in seen.values())
            with self._guard:
                if open_hosts:
                    self._taken[row.id] = open_hosts
                else:
                    self._taken.pop(row.id, None)
        return seen

    def preparation(self, row: Row) -> Preparation:
        images = self._resource(row).images
        # Hosts that were launched have their environment: asking again would cost every look.
        if images is None or (row.state.get("hosts") and self._resource(row).takes_slots):
            return READY
        return self._preparations.state_of(images(row))

    def slots(self) -> tuple[int, int]:
        with self._guard:
            return self._slots, self._slots - sum(self._taken.values())

    def reserve(self, row: Row, hosts: tuple[str, ...]) -> bool:
        """Take slots for hosts that are about to be launched; hosts of the row that run keep theirs."""
        if not self._resource(row).takes_slots:
            return True
        with self._guard:
            others = sum(count for row_id, count in self._taken.items() if row_id != row.id)
            wanted = max(len(hosts), self._taken.get(row.id, 0))
            # A job of more hosts than the machine has slots runs alone rather than never.
            if others and others + wanted > self._slots:
                return False
            self._taken[row.id] = wanted
            return True

    def prepare(self, row: Row) -> None:
        images = self._resource(row).images
        if images is not None:
            self._preparations.prepare(images(row))

    def launch(self, row: Row, hosts: tuple[str, ...]) -> None:
        build_specs = self._resource(row).hosts
        assert build_specs is not None, f"{row.kind} launches hosts but declares none"
        specs = build_specs(row, hosts, self._parts)
        for spec in specs:
            program = dict(spec["program"])  # hosts of one launch share it
            socket = self._executor.warm(Path(program["prefix"]), program.pop("preload"))
            spec["program"] = {**program, "fork": {"socket": str(socket)}}
        self._executor.launch(specs)
        self._watch(row, [host_directory(self._parts.settings, row, key) for key in hosts])

    def halt(self, row: Row, hosts: tuple[str, ...]) -> None:
        self._executor.halt([host_directory(self._parts.settings, row, key) for key in hosts])

    def forget(self, row: Row, hosts: tuple[str, ...]) -> None:
        """By directory: the row has struck the hosts by now, so their generation is the default one."""
        self._executor.forget([host_directory(self._parts.settings, row, key) for key in hosts])
        with self._guard:
            self._watched.pop(row.id, None)

    def call(self, row: Row, call: Call) -> None:
        caller = service_principal(row.account, "sagemaker.amazonaws.com")
        self._parts.call(
            call.service, call.operation, call.request, principal=caller, region=row.region
        )

    def changed(self) -> Iterable[int]:
        """Rows of which a host's state or outcome file was replaced since last asked: a few stats each."""
        with self._guard:
            watched = {row_id: dict(paths) for row_id, paths in self._watched.items()}
        found: list[int] = []
        for row_id, paths in watched.items():
            fresh = {path: _signs(path) for path in paths}
            if fresh != paths:
                found.append(row_id)
                with self._guard:
                    if row_id in self._watched:
                        self._watched[row_id] = fresh
        return found

    def written(self, row: Row) -> None:
        published = self._resource(row).published
        if published is not None:
            published(self._parts)

    def _watch(self, row: Row, directories: Iterable[Path]) -> None:
        signs = {path: _signs(path) for path in directories}
        with self._guard:
            if signs:
                self._watched[row.id] = signs
            else:
                self._watched.pop(row.id, None)

    def _resource(self, row: Row) -> Any:
        return self._registry.resources[row.kind].resource


def _signs(directory: Path) -> tuple[int, ...]:
    found: list[int] = []
    for name in ("state.json", "outcome.json"):
        try:
            status = (directory / name).stat()
        except OSError:
            found += (0, 0)
        else:
            found += (status.st_mtime_ns, status.st_ino)
    return tuple(found)
