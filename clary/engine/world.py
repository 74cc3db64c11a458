"""The world as the loop sees it: hosts of an executor, environments of images, the API, and the machine's slots."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from clary.engine.call import Parts
from clary.engine.children import Nursery
from clary.engine.consultations import Consultations
from clary.engine.host_specs import host_directory
from clary.engine.preparations import Preparations
from clary.engine.registry import Registry
from clary.engine.slots import Slots
from clary.executors.contract import Executor
from clary.identity.principals import service_principal
from clary.reconcile.decisions import Call
from clary.reconcile.observations import Exited, Observation
from clary.reconcile.seen import READY, Preparation
from clary.store.rows import Row

PHASES_SECONDS = 0.2


class EngineWorld:
    """Joins the declarations' `hosts` and `images` to the executor; keeps count of the slots in use."""

    def __init__(
        self, registry: Registry, parts: Parts, executor: Executor, preparations: Preparations
    ) -> None:
        self._nursery = Nursery(parts)
        self._consultations = Consultations(self._nursery.wake)
        self._registry = registry
        self._parts = parts
        self._executor = executor
        self._preparations = preparations
        self._slots = Slots(parts.settings.slots or 2 * (os.cpu_count() or 1))
        self._watched: dict[int, dict[Path, tuple[int, ...]]] = {}
        self._looked: dict[int, float] = {}  # row id of a job -> when it was looked at last
        self._holds_back = False
        self._guard = threading.Lock()

    def observe(self, row: Row) -> dict[str, Observation]:
        keys = row.state.get("hosts", {})
        children = self._resource(row).children
        if children is not None:
            return self._nursery.observe(row, children, keys)
        directories = {key: host_directory(self._parts.settings, row, key) for key in keys}
        self._watch(row, directories.values())
        looks = self._executor.observe(list(directories.values()))
        seen = dict(zip(directories, looks, strict=True))
        if self._resource(row).takes_slots:
            self._slots.hold(row.id, sum(not isinstance(one, Exited) for one in seen.values()))
        return seen

    def preparation(self, row: Row) -> Preparation:
        adviser = self._resource(row).adviser
        if adviser is not None:
            return self._consultations.state_of(row, adviser)
        images = self._resource(row).images
        # Hosts that were launched have their environment: asking again would cost every look.
        if images is None or (row.state.get("hosts") and self._resource(row).takes_slots):
            return READY
        return self._preparations.state_of(images(row))

    def slots(self) -> tuple[int, int]:
        return self._slots.count, self._slots.free()

    def reserve(self, row: Row, hosts: tuple[str, ...]) -> bool:
        """Take slots for hosts that are about to be launched; hosts of the row that run keep theirs."""
        return not self._resource(row).takes_slots or self._slots.reserve(row.id, len(hosts))

    def waits(self, row: Row, slots: int) -> None:
        """A row waits for slots, or (0) does not: `changed` tells when its turn has come."""
        self._slots.wait(row.id, slots)

    def prepare(self, row: Row) -> None:
        adviser = self._resource(row).adviser
        if adviser is not None:
            self._consultations.ask(row, adviser)
        images = self._resource(row).images
        if images is not None:
            self._preparations.prepare(images(row))

    def launch(self, row: Row, hosts: tuple[str, ...]) -> None:
        children = self._resource(row).children
        if children is not None:
            self._nursery.launch(row, children, hosts)
            return
        build_specs = self._resource(row).hosts
        assert build_specs is not None, f"{row.kind} launches hosts but declares none"
        specs = build_specs(row, hosts, self._parts)
        for spec in specs:
            program = dict(spec["program"])  # hosts of one launch share it
            preload = program.pop("preload")
            if "container" not in program:
                socket = self._executor.warm(Path(program["prefix"]), preload)
                program["fork"] = {"socket": str(socket)}
            spec["program"] = program
        self._executor.launch(specs)
        self._watch(row, [host_directory(self._parts.settings, row, key) for key in hosts])

    def halt(self, row: Row, hosts: tuple[str, ...]) -> None:
        children = self._resource(row).children
        if children is not None:
            self._nursery.halt(row, children, hosts)
            return
        self._executor.halt([host_directory(self._parts.settings, row, key) for key in hosts])

    def forget(self, row: Row, hosts: tuple[str, ...]) -> None:
        """By directory: the row has struck the hosts by now, so their generation is the default one."""
        if self._resource(row).children is not None:
            self._nursery.forget(row, hosts)
            return
        self._executor.forget([host_directory(self._parts.settings, row, key) for key in hosts])
        with self._guard:
            self._watched.pop(row.id, None)
            self._looked.pop(row.id, None)

    def call(self, row: Row, call: Call) -> None:
        caller = service_principal(row.account, "sagemaker.amazonaws.com")
        self._parts.call(
            call.service, call.operation, call.request, principal=caller, region=row.region
        )

    def changed(self) -> Iterable[int]:
        """Rows of which a host's state or outcome file was replaced since last asked: a few stats each.

        A job's phases may follow one another within milliseconds; they are told together, its end at once.
        """
        self._holds_back = False
        now = time.monotonic()
        with self._guard:
            watched = {row_id: dict(paths) for row_id, paths in self._watched.items()}
        found: list[int] = self._nursery.woken()
        for row_id, paths in watched.items():
            fresh = {path: _signs(path) for path in paths}
            if fresh != paths:
                ended = any(fresh[path][2:] != signs[2:] for path, signs in paths.items())
                if not ended and now - self._looked.get(row_id, 0.0) < PHASES_SECONDS:
                    self._holds_back = True
                    continue
                found.append(row_id)
                with self._guard:
                    if row_id in self._watched:
                        self._watched[row_id] = fresh
        return [*found, *self._slots.call()]

    def patience(self) -> float:
        """The longest that `changed` should not be asked for: shorter while it holds something back."""
        return PHASES_SECONDS if self._holds_back else 1.0

    @contextmanager
    def committing(self, row: Row, *, stays: bool = True) -> Iterator[None]:
        publishing = self._resource(row).publishing
        upcoming = {row.id: row if stays else None}
        with publishing(self._parts, upcoming) if publishing else nullcontext():
            yield
        self._nursery.written(row)

    def close(self) -> None:
        self._consultations.close()

    def _watch(self, row: Row, directories: Iterable[Path]) -> None:
        signs = {path: _signs(path) for path in directories}
        with self._guard:
            if signs:
                self._watched[row.id] = signs
                if self._resource(row).takes_slots:
                    self._looked[row.id] = time.monotonic()
            else:
                self._watched.pop(row.id, None)
                self._looked.pop(row.id, None)

    def _resource(self, row: Row) -> Any:
        return self._registry.resources[row.kind].resource


def _signs(directory: Path) -> tuple[int, ...]:
    found: list[int] = []
    for name in ("state.json", "outcome.json"):
        try:
            # A pathlib path for each look would cost several times the look itself.
            status = os.stat(f"{directory}/{name}")  # noqa: PTH116
        except OSError:
            found += (0, 0)
        else:
            found += (status.st_mtime_ns, status.st_ino)
    return tuple(found)
