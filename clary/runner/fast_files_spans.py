"""Byte ranges of objects, fetched as they are asked for, a little ahead of a reader, and kept within a bound.

    read ──▶ spans of the object ── all there ──▶ answered at once
                    │ missing: a span begins        ▲
                    └──▶ queue ──▶ fetching thread ─┘ answers as the bytes come in

One span is one GET of a range. Whoever reads on into the second half of a span has the next one begun,
twice as long; whoever jumps begins with a short one. So a reader of parts fetches parts, and a reader
of all of it has few requests, which are under way before it needs them.
"""

from __future__ import annotations

import errno
import queue
import threading
from collections import OrderedDict
from typing import Callable, NamedTuple  # noqa: UP035 - the one of collections.abc is no alias in 3.8

from .connections import Answer, ProtocolFault
from .fast_files_local import HEADER, Changed, LocalFiles
from .manifests import Item
from .s3 import S3
from .s3_answers import S3Error

SPAN_BYTES_MIN = 256 * 1024
SPAN_BYTES_MAX = 8 * 1024 * 1024
CACHE_BYTES_MAX = 64 * 1024 * 1024
THREADS = 4
BREAKS_MAX = 3  # of a transfer's connection, without a byte between them
_PIECE_BYTES = 1024 * 1024
_GONE = {404: "was deleted", 405: "was deleted", 412: "was overwritten"}

Deliver = Callable[["list[memoryview]", int], None]  # pieces in their order, or an errno


class Object:
    """One object of a channel, as it was listed."""

    __slots__ = ("channel", "item", "size", "spans", "version")

    def __init__(self, channel: str, item: Item) -> None:
        self.channel = channel
        self.item = item
        self.size = item.size or 0
        self.version = ""  # known from the first answer on where the bucket keeps versions
        self.spans: list[_Span] = []


class _Span:
    __slots__ = ("data", "end", "filled", "object", "start", "waiting")

    def __init__(self, whole: Object, start: int, end: int) -> None:
        self.object = whole
        self.start = start
        self.end = end
        self.data = bytearray()  # has its length once a thread has taken it up
        self.filled = 0
        self.waiting: list[_Wanted] = []

    @property
    def length(self) -> int:
        return self.end - self.start

    @property
    def is_whole(self) -> bool:
        return self.filled == self.length


class _Wanted(NamedTuple):
    object: Object
    start: int
    end: int
    deliver: Deliver


class Spans:
    """Safe for several threads. `say` hears a sentence for the user when an object cannot be read."""

    def __init__(self, s3: S3, say: Callable[[str], None]) -> None:
        self._s3 = s3
        self._say = say
        self._local = LocalFiles()
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Span | None] = queue.SimpleQueue()
        self._kept: OrderedDict[_Span, None] = OrderedDict()  # all spans, the last used one last
        self._kept_bytes = 0
        self._threads: list[threading.Thread] = []
        self._unfinished = 0  # spans that no thread is done with
        self._closed = False
        self.fetched = 0

    def read(self, whole: Object, start: int, size: int, deliver: Deliver) -> None:
        """Deliver a range, cut at the object's end, now or from another thread; always exactly once."""
        end = min(start + size, whole.size)
        if start >= end or self._closed:
            deliver([], errno.EIO if self._closed else 0)
            return
        try:
            data = self._local.read(whole, start, end)
        except (Changed, OSError) as problem:
            self._say(_sentence(whole, problem, errno.EIO))
            deliver([], errno.EIO)
            return
        if data is not None:
            with self._lock:
                self.fetched += len(data)
            deliver([data], 0)
            return
        with self._lock:
            pieces = self._pieces(_Wanted(whole, start, end, deliver))
        if pieces is not None:
            deliver(*pieces)

    def close(self) -> None:
        """Answer everything that waits, and whatever is asked from now on, with EIO."""
        with self._lock:
            self._closed = True
            spans, self._kept = list(self._kept), OrderedDict()
            waiting = [wanted for span in spans for wanted in span.waiting]
            for span in spans:
                span.waiting = []
            for _ in self._threads:
                self._queue.put(None)
        for wanted in waiting:
            wanted.deliver([], errno.EIO)
        self._s3.close()
        self._local.close()

    def join(self, seconds: float) -> None:
        """Wait for what was under way when it was closed; each thread is given so long."""
        for thread in self._threads:
            thread.join(seconds)
        self._s3.close()  # what they used last was kept for others

    # With the lock held -----------------------------------------------------------------------------

    def _pieces(self, wanted: _Wanted) -> tuple[list[memoryview], int] | None:
        """What was wanted, or None after it was put where it waits."""
        if self._closed:
            return [], errno.EIO
        pieces: list[memoryview] = []
        at = wanted.start
        while at < wanted.end:
            span = self._span_at(wanted.object, at) or self._begin(wanted.object, at, wanted.end)
            stop = min(wanted.end, span.end)
            if span.start + span.filled < stop:
                span.waiting.append(wanted)
                return None
            pieces.append(memoryview(span.data)[at - span.start : stop - span.start])
            self._read_ahead(span, stop)
            at = stop
        return pieces, 0

    def _span_at(self, whole: Object, at: int) -> _Span | None:
        for span in whole.spans:
            if span.start <= at < span.end:
                self._kept.move_to_end(span)
                return span
        return None

    def _read_ahead(self, span: _Span, reached: int) -> None:
        whole = span.object
        begins = reached - span.start > span.length // 2 and span.end < whole.size
        if begins and self._span_at(whole, span.end) is None and self._queue.qsize() < THREADS:
            self._begin(whole, span.end, span.end)

    def _begin(self, whole: Object, start: int, at_least: int) -> _Span:
        before = next((span for span in whole.spans if span.end == start), None)
        length = min(before.length * 2, SPAN_BYTES_MAX) if before is not None else SPAN_BYTES_MIN
        end = min(max(start + length, at_least), whole.size)
        # What another reader has, or is about to have, need not come twice.
        end = min([end, *(span.start for span in whole.spans if span.start > start)])
        span = _Span(whole, start, end)
        self._make_room(span.length)
        whole.spans.append(span)
        self._kept[span] = None
        self._kept_bytes += span.length
        self._unfinished += 1
        if len(self._threads) < min(self._unfinished, THREADS):
            thread = threading.Thread(target=self._work, name="fast-files", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queue.put(span)
        return span

    def _make_room(self, length: int) -> None:
        for span in list(self._kept):
            if self._kept_bytes + length <= CACHE_BYTES_MAX:
                return
            if span.is_whole:
                self._drop(span)

    def _drop(self, span: _Span) -> None:
        span.object.spans.remove(span)
        self._kept.pop(span, None)
        self._kept_bytes -= span.length

    # Fetching ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            span = self._queue.get()
            if span is None:
                return
            try:
                self._fill(span)
            except Exception as problem:  # noqa: BLE001  (whoever waits must be answered)
                self._give_up(span, problem)
            with self._lock:
                self._unfinished -= 1

    def _fill(self, span: _Span) -> None:
        """Fetch a span to its end, resuming where a connection broke."""
        span.data = bytearray(span.length)
        view = memoryview(span.data)
        breaks = 0
        while not span.is_whole and not self._closed:
            answer = self._ask(span)
            if span.object.size > SPAN_BYTES_MIN:
                self._local.adopt(span.object, answer, span.object.size)
            try:
                while not span.is_whole and not self._closed:
                    count = answer.read_into(view[span.filled : span.filled + _PIECE_BYTES])
                    if not count:
                        raise ProtocolFault("the range ended early")
                    breaks = 0
                    self._grow(span, count)
            except OSError:
                breaks += 1
                if breaks > BREAKS_MAX:
                    raise
            finally:
                answer.close()

    def _ask(self, span: _Span) -> Answer:
        whole = span.object
        item = whole.item
        headers = {"range": f"bytes={span.start + span.filled}-{span.end - 1}", HEADER: "?"}
        if item.etag:
            headers["if-match"] = item.etag
        try:
            answer = self._s3.call("GET", item.bucket, item.key, headers=headers)
        except S3Error as error:
            if error.status not in _GONE or not whole.version:
                raise
            # The version that the job began with may still be had.
            query = [("versionId", whole.version)]
            answer = self._s3.call("GET", item.bucket, item.key, query=query, headers=headers)
        if answer.status != 206:
            answer.close()
            raise S3Error(answer.status, "InvalidRange", "The range was ignored.", item.uri)
        version = answer.headers.get("x-amz-version-id", "")
        whole.version = whole.version or ("" if version == "null" else version)
        return answer

    def _grow(self, span: _Span, count: int) -> None:
        ready: list[tuple[_Wanted, tuple[list[memoryview], int]]] = []
        with self._lock:
            self.fetched += count
            span.filled += count
            reached = span.start + span.filled
            waiting, span.waiting = span.waiting, []
            for wanted in waiting:
                if reached < min(wanted.end, span.end):
                    span.waiting.append(wanted)
                    continue
                pieces = self._pieces(wanted)
                if pieces is not None:
                    ready.append((wanted, pieces))
        for wanted, pieces in ready:
            wanted.deliver(*pieces)

    def _give_up(self, span: _Span, problem: Exception) -> None:
        number = errno.EIO
        if isinstance(problem, S3Error) and problem.status == 403:
            number = errno.EACCES
        with self._lock:
            waiting, span.waiting = span.waiting, []
            if span in self._kept:
                self._drop(span)
            closed = self._closed
        if waiting and not closed:  # nobody has asked for what was fetched ahead
            self._say(_sentence(span.object, problem, number))
        for wanted in waiting:
            wanted.deliver([], number)


def _sentence(whole: Object, problem: Exception, number: int) -> str:
    why = f"cannot be read: {problem}"
    if isinstance(problem, Changed):
        why = "was written to since the job began"
    elif isinstance(problem, S3Error) and problem.status in _GONE:
        why = f"{_GONE[problem.status]} since the job began"
    name = errno.errorcode[number]
    return f"Channel {whole.channel}: {whole.item.uri} {why}. Reading it fails with {name}."
