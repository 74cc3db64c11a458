"""What passes through endpoints with data capture, on its way into objects of JSON lines.

    offer ── sample ── records ── lines, many at a time ── every few seconds, or many, or large ──▶ one object

An invocation is answered before it is captured and never fails by it: where the memory set aside is
full or the store refuses, records are dropped, counted and, once until it goes well again, told to the
endpoint's log. Lines are made on the event loop, some dozens in one go, which costs two microseconds
each; a thread would hold the loop up for longer, whenever the machine is busy and the thread is put
aside while it has the interpreter. Only what is large is left to the thread. A door that is killed
loses what waits: the last few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from clary.dataplane.answer_heads import AnswerHead
from clary.dataplane.capture_records import Lines, Record, object_key
from clary.dataplane.capture_settings import CaptureSettings
from clary.dataplane.routes import EndpointRoute
from clary.model.errors import ApiError

log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
FLUSH_BYTES = 4 * 1024 * 1024
FLUSH_RECORDS = 10_000
WAITING_BYTES_MAX = 96 * 1024 * 1024  # of all variants together, those being written included
RECORD_OVERHEAD_BYTES = 512
LINE_BYTES_MAX = 64 * 1024  # longer ones are made by the thread
RECORDS_AT_ONCE = 64  # lines made in one go
STREAM = "data-capture"  # of an endpoint's log group
NOTICES_MAX = 1000


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


class Journal(Protocol):
    """Where the owner of an endpoint reads what went wrong; called on the event loop."""

    def write(self, route: EndpointRoute, stream: str, message: str) -> None: ...
    async def close(self) -> None: ...


# A time, and how many records are in it: lines, or a record of which the thread makes one.
Piece = tuple[float, int, bytes | Record]


@dataclass(slots=True)
class _Batch:
    """What waits of one variant, under one configuration."""

    route: EndpointRoute
    variant: str
    settings: CaptureSettings
    since: float
    lines: Lines
    raw: list[Record] = field(default_factory=list[Record])
    pieces: list[Piece] = field(default_factory=list[Piece])
    count: int = 0  # of the records in all pieces
    size: int = 0
    made: int = 0  # of the size, what is in pieces

    def make_lines(self) -> None:
        """Of all that is raw, but for what is large."""
        raw, line = self.raw, self.lines.line
        if not raw:
            return
        content = self.size - self.made - len(raw) * RECORD_OVERHEAD_BYTES
        if content <= LINE_BYTES_MAX and len({record[0] // 3600 for record in raw}) == 1:
            # One piece, since every object that is kept costs the interpreter time.
            self.pieces.append((raw[0][0], len(raw), b"".join([line(record) for record in raw])))
        else:
            for record in raw:
                large = len(record[1] or b"") + len(record[3] or b"") > LINE_BYTES_MAX
                self.pieces.append((record[0], 1, record if large else line(record)))
        self.count += len(raw)
        self.made = self.size
        raw.clear()


class Captures:
    """Takes records on the event loop; a thread writes them."""

    def __init__(
        self,
        store: Store | None,
        journal: Journal | None = None,
        *,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        """Without a store, as where the door serves no objects, every record is dropped."""
        self._store = store
        self._journal = journal
        self._chance = chance
        self._clock = clock
        self.flush_seconds = flush_seconds
        self._batches: dict[tuple[int, str], _Batch] = {}
        self._taken_bytes = 0
        self._done_bytes = 0  # of those, written or given up; changed by the thread alone
        self._guard = threading.Lock()  # of the numbers that both change
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="capture")
        self.captured = 0
        self.dropped = 0
        # Of endpoints whose records cannot be written: how many were lost so far.
        self._failing: dict[str, int] = {}
        self._notices: deque[tuple[EndpointRoute, str]] = deque(maxlen=NOTICES_MAX)

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
        waiting = self._taken_bytes - self._done_bytes
        if self._store is None or waiting + size > WAITING_BYTES_MAX:
            self._lost(route, 1, "waits for the object store, and there is no memory for more")
            return
        key = (id(settings), variant)  # the batch keeps the settings, so that no others get its id
        batch = self._batches.get(key)
        now = self._clock()
        if batch is None:
            batch = _Batch(route, variant, settings, now, Lines(settings))
            self._batches[key] = batch
        given = body if settings.input else None
        told = answer if settings.output else None
        batch.raw.append((now, given, headers, told, head.headers))
        batch.size += size
        self._taken_bytes += size
        if len(batch.raw) >= RECORDS_AT_ONCE or batch.size >= FLUSH_BYTES:
            batch.make_lines()
            if batch.size >= FLUSH_BYTES or batch.count >= FLUSH_RECORDS:
                self._hand_over(key)

    async def flush_for_ever(self) -> None:
        """Write what waits long enough, until cancelled."""
        while True:
            await asyncio.sleep(self.flush_seconds / 4)
            now = self._clock()
            for key, batch in list(self._batches.items()):
                if now - batch.since >= self.flush_seconds:
                    self._hand_over(key)
            self._tell()

    async def close(self) -> None:
        """Write everything that waits, and wait until it is written."""
        for key in list(self._batches):
            self._hand_over(key)
        self._store = None  # what comes now comes too late
        await asyncio.to_thread(self._writer.shutdown)
        self._tell()
        if self._journal is not None:
            await self._journal.close()

    def _tell(self) -> None:
        while self._notices:
            route, message = self._notices.popleft()
            log.warning("endpoint %s: %s", route.name, message)
            if self._journal is not None:
                self._journal.write(route, STREAM, message)

    def _hand_over(self, key: tuple[int, str]) -> None:
        batch = self._batches.pop(key)
        batch.make_lines()
        if self._store is not None:
            self._writer.submit(self._write, self._store, batch).add_done_callback(_ended)

    def _write(self, store: Store, batch: _Batch) -> None:
        """Run in the thread: one object for each hour that the records are of."""
        try:
            hours: dict[int, list[Piece]] = {}
            for piece in batch.pieces:
                hours.setdefault(int(piece[0] // 3600), []).append(piece)
            for pieces in hours.values():
                self._put(store, batch, pieces)
        finally:
            self._done_bytes += batch.size

    def _put(self, store: Store, batch: _Batch, pieces: list[Piece]) -> None:
        settings, route = batch.settings, batch.route
        place = object_key(settings.prefix, route.name, batch.variant, pieces[0][0])
        line = batch.lines.line
        count = sum(number for _, number, _ in pieces)
        try:
            content = b"".join([one if isinstance(one, bytes) else line(one) for *_, one in pieces])
            store.put(settings.bucket, place, content, "application/json")
        except (ApiError, OSError) as problem:
            where = f"s3://{settings.bucket}/{place}"
            self._lost(route, count, f"could not be written to {where}: {problem}")
        else:
            with self._guard:
                self.captured += count
                lost = self._failing.pop(route.arn, 0)
            if lost:
                self._notices.append(
                    (route, f"Data capture goes on; {lost} records were lost meanwhile.")
                )

    def _lost(self, route: EndpointRoute, count: int, why: str) -> None:
        """Count what is lost; the first loss of a row of them is told."""
        with self._guard:
            self.dropped += count
            before = self._failing.get(route.arn, 0)
            self._failing[route.arn] = before + count
        if not before:
            self._notices.append(
                (route, f"Captured data {why}. Records are dropped until this ends.")
            )


def _ended(written: Future[None]) -> None:
    if (problem := written.exception()) is not None:
        log.error("captured invocations were lost by a defect of Clary", exc_info=problem)
