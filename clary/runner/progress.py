"""What a runner tells while it works and when it is done: state.json and outcome.json."""

# Paths are plain strings here: they come from and go to system calls.
# ruff: noqa: PTH105

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clary.runner import sockets

_REFRESH_SECONDS = 1.0


class Progress:
    """The state of one host; any thread of its runner may report, every write is atomic."""

    def __init__(
        self, directory: Path, wake_socket: str, clock: Callable[[], float] = time.time
    ) -> None:
        self.input_bytes = 0
        self.stopping = threading.Event()  # long transfers may look at it and give up
        self._path = directory / "state.json"
        self._wake_socket = wake_socket
        self._clock = clock
        self._guard = threading.Lock()
        self._written = 0.0
        self._phase = ""
        self._phases: list[tuple[str, float]] = []
        self._message = ""
        self._program = 0
        self._ready = False
        self._metrics: dict[str, tuple[float, float]] = {}

    @property
    def phases(self) -> list[tuple[str, float]]:
        with self._guard:
            return list(self._phases)

    @property
    def metrics(self) -> dict[str, tuple[float, float]]:
        with self._guard:
            return dict(self._metrics)

    def enter(self, phase: str, message: str = "") -> None:
        with self._guard:
            self._phase, self._message = phase, message
            self._phases.append((phase, self._clock()))
            self._write()
        self.poke()

    def say(self, message: str) -> None:
        with self._guard:
            self._message = message
            self._write()

    def program_started(self, process: int) -> None:
        with self._guard:
            self._program = process
            self._write()

    def set_ready(self, ready: bool) -> None:
        with self._guard:
            if self._ready == ready:
                return
            self._ready = ready
            self._write()
        self.poke()

    def set_metrics(self, metrics: dict[str, tuple[float, float]]) -> None:
        """Keep the last values; told at most once a second."""
        with self._guard:
            self._metrics.update(metrics)
            if time.monotonic() - self._written < _REFRESH_SECONDS:
                return
            self._write()

    def poke(self) -> None:
        if self._wake_socket:
            sockets.poke(self._wake_socket)

    def _write(self) -> None:
        self._written = time.monotonic()
        document = {
            "phase": self._phase,
            "phases": self._phases,
            "message": self._message,
            "program_pid": self._program,
            "ready": self._ready,
            "metrics": self._metrics,
            "input_bytes": self.input_bytes,
        }
        replace(self._path, document, durable=False)


def replace(path: Path, document: dict[str, Any], *, durable: bool) -> None:
    """Write a JSON file so that a reader sees the old or the new one; durable: so does a power cut."""
    fresh = f"{path}.{os.getpid()}"
    with open(fresh, "w", encoding="utf-8") as file:
        file.write(json.dumps(document))  # dump() itself encodes in Python, eight times slower
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(fresh, path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
