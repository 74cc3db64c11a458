"""Environments on their way: built in the background, one after the other, with the last line of progress to show."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from clary.images import build, containers
from clary.images.image import Image, UnknownImage
from clary.images.uv import EnvironmentFailed
from clary.reconcile.seen import READY, Preparation
from clary.settings import Settings

log = logging.getLogger(__name__)

FAILURES_MAX = 1_000


class Preparations:
    """Who asks for the same environment twice waits for the same build."""

    def __init__(
        self,
        settings: Settings,
        resolve: Callable[[str], Image],
        ready: Callable[[], None],
        open_object: containers.OpenObject | None = None,
    ) -> None:
        self._settings = settings
        self._resolve = resolve
        self._ready = ready  # told when a build ends
        self._open_object = open_object  # archives of container images may lie in S3
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="build")
        self._progress: dict[str, str] = {}
        self._failures: dict[str, str] = {}
        self._guard = threading.Lock()
        self._closing = threading.Event()

    def state_of(self, uris: Iterable[str]) -> Preparation:
        """The least ready of the images' environments."""
        found = READY
        for uri in uris:
            one = self._state_of(uri)
            if one.status == "failed":
                return one
            if one.status != "ready" and found.status != "absent":
                found = one
        return found

    def prepare(self, uris: Iterable[str]) -> None:
        for uri in uris:
            image = self._resolve(uri)
            key = self._key(image)
            if self._is_ready(image):
                continue
            with self._guard:
                if key in self._progress:
                    continue
                self._progress[key] = f"Preparing the environment of {uri}"
                self._failures.pop(key, None)
            self._pool.submit(self._build, key, image)

    def close(self) -> None:
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _state_of(self, uri: str) -> Preparation:
        try:
            image = self._resolve(uri)
            if self._is_ready(image):
                return READY
        except UnknownImage as problem:
            return Preparation("failed", str(problem))
        key = self._key(image)
        with self._guard:
            if key in self._progress:
                return Preparation("building", self._progress[key])
            if key in self._failures:
                # Told once: the next job of this image tries again, the cause may be mended.
                return Preparation("failed", self._failures.pop(key))
        return Preparation("absent")

    def _key(self, image: Image) -> str:
        return image.container or build.prefix(image.environment, self._settings).name

    def _is_ready(self, image: Image) -> bool:
        if image.container:
            return containers.is_ready(image, self._settings)
        return build.is_built(image.environment, self._settings)

    def _build(self, key: str, image: Image) -> None:
        def progress(line: str) -> None:
            with self._guard:
                self._progress[key] = line

        try:
            if image.container:
                containers.fetch(image, self._settings, self._open_object, progress, self._closing)
            else:
                build.build(image.environment, self._settings, progress, stop=self._closing)
        except EnvironmentFailed as problem:
            self._failed(key, str(problem))
        except Exception as problem:
            log.exception("building environment %s", key)
            self._failed(key, f"{type(problem).__name__}: {problem}")
        finally:
            with self._guard:
                self._progress.pop(key, None)
            self._ready()

    def _failed(self, key: str, reason: str) -> None:
        with self._guard:
            if len(self._failures) >= FAILURES_MAX:
                self._failures.clear()
            self._failures[key] = reason
