"""Data capture: invocations kept in memory for moments, then written to S3 as files of JSON lines.

    offer ── sample ── waiting lines of a variant ── every few seconds, or many, or large ──▶ one object

An invocation is answered before it is captured and never fails by it: where the memory set aside is
full or the store refuses, records are dropped, counted and logged. Lines are made on the event loop,
which costs microseconds; a thread would hold it up for longer, whenever the machine is busy and the
thread is put aside while it has the interpreter. Only what is large is left to the thread.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from clary.dataplane.capture_records import Lines, Record, object_key
from clary.dataplane.capture_settings import CaptureSettings
from clary.dataplane.lanes import AnswerHead
from clary.dataplane.routes import EndpointRoute
from clary.model.errors import ApiError

log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
FLUSH_BYTES = 4 * 1024 * 1024
FLUSH_RECORDS = 10_000
WAITING_BYTES_MAX = 96 * 1024 * 1024  # of all variants together, those being written included
RECORD_OVERHEAD_BYTES = 512
LINE_BYTES_MAX = 64 * 1024  # longer ones are made by the thread
REPORT_SECONDS = 10.0


class Store(Protocol):
    """The part of the object store that captures are written to."""

    def put(
        self,
        bucket: str,
        key: str,
        data: bytes,
        content_type: str = ...,
        user: Mapping[str, str] | None = ...,
    ) -> object: ...


@dataclass(slots=True)
class _Batch:
    """What waits of one variant, under one configuration."""

    endpoint: str
    variant: str
    settings: CaptureSettings
    since: float
    lines: Lines
    records: list[tuple[float, bytes | Record]] = field(default_factory=list[Any])
    size: int = 0


class Captures:
    """Takes records on the event loop; a thread writes them."""

    def __init__(
        self,
        store: Store | None,
        *,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        """Without a store, as where the door serves no objects, every record is dropped."""
        self._store = store
        self._chance = chance
        self._clock = clock
        self.flush_seconds = flush_seconds
        self._batches: dict[tuple[int, str], _Batch] = {}
        self._waiting_bytes = 0
        self._guard = threading.Lock()  # of the two numbers that the thread changes too
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="capture")
        self.captured = 0
        self.dropped = 0
        self._dropped_told = 0

    def offer(
        self,
        route: EndpointRoute,
        variant: str,
        headers: Mapping[str, str],
        body: bytes,
        head: AnswerHead,
        answer: bytes,
    ) -> None:
        """Keep a successful invocation if its turn comes up."""
        settings = route.capture
        if settings is None:
            return
        percentage = settings.percentage
        if percentage < 100 and self._chance() * 100 >= percentage:
            return
        size = len(body) + len(answer) + RECORD_OVERHEAD_BYTES
        if self._store is None or self._waiting_bytes + size > WAITING_BYTES_MAX:
            with self._guard:
                self.dropped += 1
            return
        key = (id(settings), variant)  # the batch keeps the settings, so that no others get its id
        batch = self._batches.get(key)
        now = self._clock()
        if batch is None:
            batch = _Batch(route.name, variant, settings, now, Lines(settings))
            self._batches[key] = batch
        given = body if settings.input else None
        told = answer if settings.output else None
        record: bytes | Record
        if size > LINE_BYTES_MAX:
            record = Record(now, given, headers, told, head.headers)
        else:
            record = batch.lines.line_of(now, given, headers, told, head.headers)
        batch.records.append((now, record))
        batch.size += size
        with self._guard:
            self._waiting_bytes += size
        if batch.size >= FLUSH_BYTES or len(batch.records) >= FLUSH_RECORDS:
            self._hand_over(key)

    async def flush_for_ever(self) -> None:
        """Write what waits long enough, until cancelled."""
        told = self._clock()
        while True:
            await asyncio.sleep(self.flush_seconds / 4)
            now = self._clock()
            for key, batch in list(self._batches.items()):
                if now - batch.since >= self.flush_seconds:
                    self._hand_over(key)
            if now - told >= REPORT_SECONDS:
                told = now
                self._report()

    async def close(self) -> None:
        """Write everything that waits, and wait until it is written."""
        for key in list(self._batches):
            self._hand_over(key)
        self._store = None  # what comes now comes too late
        await asyncio.to_thread(self._writer.shutdown)
        self._report()

    def _report(self) -> None:
        if self.dropped > self._dropped_told:
            count, self._dropped_told = self.dropped - self._dropped_told, self.dropped
            log.warning("%d captured invocations were dropped: they could not be kept", count)

    def _hand_over(self, key: tuple[int, str]) -> None:
        batch = self._batches.pop(key)
        if self._store is not None:
            self._writer.submit(self._write, self._store, batch).add_done_callback(_ended)

    def _write(self, store: Store, batch: _Batch) -> None:
        """Run in the thread: one object for each hour that the records are of."""
        try:
            hours: dict[int, list[tuple[float, bytes | Record]]] = {}
            for one in batch.records:
                hours.setdefault(int(one[0] // 3600), []).append(one)
            for records in hours.values():
                self._put(store, batch, records)
        finally:
            with self._guard:
                self._waiting_bytes -= batch.size

    def _put(
        self, store: Store, batch: _Batch, records: list[tuple[float, bytes | Record]]
    ) -> None:
        settings = batch.settings
        place = object_key(settings.prefix, batch.endpoint, batch.variant, records[0][0])
        try:
            lines = batch.lines
            content = b"".join(
                [one if isinstance(one, bytes) else lines.line(one) for _, one in records]
            )
            store.put(settings.bucket, place, content, "application/json")
        except (ApiError, OSError) as problem:
            with self._guard:
                self.dropped += len(records)
            log.error(
                "%d captured invocations of endpoint %s could not be written to s3://%s/%s: %s",
                len(records),
                batch.endpoint,
                settings.bucket,
                place,
                problem,
            )
        else:
            with self._guard:
                self.captured += len(records)


def _ended(written: Future[None]) -> None:
    if (problem := written.exception()) is not None:
        log.error("captured invocations were lost by a defect of Clary", exc_info=problem)
