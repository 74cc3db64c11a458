"""The queue of one asynchronous endpoint: files that outlive every process.

    waiting/<time>-<id>.json    in the order of arrival; a request is here once the client has its 202
    running/<time>-<id>.json    claimed by a rename
    telling/<time>-<id>.json    done, but a topic is still to be told

A process that dies leaves its claims in `running`; whoever comes next moves them back. A request may
therefore be run twice, but never get lost.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from clary.dataplane.async_requests import AsyncRequest

log = logging.getLogger(__name__)

WAITING, RUNNING, TELLING = "waiting", "running", "telling"


class AsyncQueue:
    """Every method but `name_of` does file work and is for threads; one process runs a queue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def name_of(request: AsyncRequest) -> str:
        return f"{int(request.received * 1e6):020d}-{request.id}.json"

    def prepare(self) -> None:
        for part in (WAITING, RUNNING, TELLING):
            (self.folder / part).mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, request: AsyncRequest) -> None:
        """Keep a request; it is on the disk when this returns."""
        self.prepare()
        self._write(WAITING, self.name_of(request), request.to_json())

    def names(self, part: str = WAITING) -> list[str]:
        """The names in one part, oldest first."""
        try:
            found = [entry.name for entry in os.scandir(self.folder / part)]
        except FileNotFoundError:
            return []
        return sorted(name for name in found if name.endswith(".json"))

    def recover(self) -> None:
        """Put back what a process that died had claimed."""
        self.prepare()
        for name in self.names(RUNNING):
            request = self._read(RUNNING, name)
            if request is not None:
                self._write(WAITING, name, request.again().to_json())
            (self.folder / RUNNING / name).unlink(missing_ok=True)

    def claim(self, name: str) -> AsyncRequest | None:
        """Take a waiting request; None if it is gone or cannot be read."""
        try:
            (self.folder / WAITING / name).rename(self.folder / RUNNING / name)
        except FileNotFoundError:
            return None
        return self._read(RUNNING, name)

    def peek(self, name: str) -> AsyncRequest | None:
        return self._read(WAITING, name)

    def give_back(self, name: str) -> None:
        """It could not be started: let it wait in its old place."""
        with contextlib.suppress(FileNotFoundError):  # it was not claimed yet
            (self.folder / RUNNING / name).rename(self.folder / WAITING / name)

    def finish(self, name: str, told: bytes = b"") -> None:
        """The result is stored; `told` is what a topic is still to be told."""
        if told:
            self._write(TELLING, name, told)
        (self.folder / RUNNING / name).unlink(missing_ok=True)

    def untold(self, name: str) -> bytes:
        try:
            return (self.folder / TELLING / name).read_bytes()
        except FileNotFoundError:
            return b""

    def told(self, name: str) -> None:
        (self.folder / TELLING / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """The endpoint is gone, and with it whoever waits for it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, part: str, name: str, content: bytes) -> None:
        folder = self.folder / part
        fresh = folder / f"{name}.new"
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(folder / name)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _read(self, part: str, name: str) -> AsyncRequest | None:
        path = self.folder / part / name
        try:
            return AsyncRequest.from_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as problem:
            log.error(
                "the asynchronous request %s cannot be read (%s): it is dropped", path, problem
            )
            path.unlink(missing_ok=True)
            return None


def queue_folder(root: Path, region: str, endpoint: str, number: str) -> Path:
    """`number` tells an endpoint from an earlier one of its name."""
    return root / region / (f"{endpoint.lower()}.{number}" if number else endpoint.lower())


def queue_folders(root: Path) -> Iterable[tuple[str, str, str, Path]]:
    """(region, endpoint in lower case, number, folder) of every queue that is there."""
    for region in sorted(root.iterdir()) if root.is_dir() else ():
        for folder in sorted(region.iterdir()) if region.is_dir() else ():
            endpoint, _, number = folder.name.partition(".")
            yield region.name, endpoint, number, folder
