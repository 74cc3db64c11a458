"""Log lines on their way to CloudWatch Logs: in order, soon, and kept while the door is away."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .connections import jittered
from .lines import shown
from .service_calls import Service, ServiceError
from .signing import Credentials
from .spec import HostSpec, Log
from .spools import Spool

# PutLogEvents: at most 1,048,576 bytes (26 more for each event), 10,000 events, 24 hours a call.
BATCH_BYTES_MAX = 1_000_000
BATCH_EVENTS_MAX = 10_000
BATCH_MILLISECONDS_MAX = 23 * 3600 * 1000
EVENT_BYTES_MAX = 256 * 1024 - 26
SPOOL_BYTES_MAX = 1024 * 1024 * 1024
FIRST_SECONDS = 0.1
INTERVAL_SECONDS = 0.5
BACKLOG_BYTES = 512 * 1024  # so much waiting is sent at once
TAIL_LINES = 20
CLOSE_SECONDS = 10.0
RETRY_SECONDS_MAX = 2.0
REFUSALS_MAX = 3
UNACCEPTABLE = frozenset(("InvalidParameterException", "SerializationException"))


class LogShipper:
    """Takes lines from any thread; a thread of its own ships them.

    `write` never waits for the network. What cannot be shipped is kept on disk, up to a bound; a
    line beyond it is dropped, and the log says how many were.
    """

    def __init__(
        self,
        spec: HostSpec,
        provider: Callable[[], Credentials],
        *,
        spool_bytes_max: int = SPOOL_BYTES_MAX,
    ) -> None:
        self._spool = Spool(spec.directory, bytes_max=spool_bytes_max)
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._condition = threading.Condition()
        self._urgent = False
        self._closing = False
        self._give_up_at = float("inf")
        self._last_milliseconds = 0
        self._refusals = 0
        self._has_stream = False
        self._log = spec.log
        self._service = Service(
            spec.endpoint_url,
            spec.region,
            provider,
            signing_name="logs",
            target="Logs_20140328",
            version="1.1",
        )
        self.last_problem = ""  # why the latest attempt failed, empty when it did not
        self._thread = threading.Thread(target=self._work, name="logs", daemon=True)
        if self._log is not None:
            self._thread.start()

    @property
    def tail(self) -> list[str]:
        """The last 20 lines, as CloudWatch shows them."""
        return list(self._tail)

    def write(self, line: bytes, at: float | None = None) -> None:
        """Take one line, without its end; `at` is in seconds since the epoch."""
        text = shown(line)
        self._tail.append(text)
        if self._log is None:
            return
        milliseconds = int((time.time() if at is None else at) * 1000)
        with self._condition:
            before = self._spool.waiting_bytes
            # The service wants a batch in order; a clock that steps back must not undo that.
            self._last_milliseconds = max(self._last_milliseconds, milliseconds)
            for piece in _pieces(text):
                self._spool.put(self._last_milliseconds, piece)
            if not before or before < BACKLOG_BYTES <= self._spool.waiting_bytes:
                self._condition.notify_all()

    def flush(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Wait until every line taken so far has arrived; False when that takes too long."""
        deadline = time.monotonic() + seconds
        with self._condition:
            self._urgent = True
            self._condition.notify_all()
            while self._log is not None and self._spool.waiting_bytes:
                left = deadline - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    return False
                self._condition.wait(min(left, 0.5))
        return True

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Ship what is left and stop; False when some lines could not be shipped in time."""
        with self._condition:
            self._closing = True
            self._give_up_at = time.monotonic() + seconds
            self._condition.notify_all()
        if self._log is not None:
            # An attempt that hangs ends with the process; it holds nothing that others need.
            self._thread.join(seconds + 1.0)
        arrived = self._log is None or not self._spool.waiting_bytes
        if not self._thread.is_alive():
            self._spool.close()
            self._service.close()
        return arrived

    def _work(self) -> None:
        interval = FIRST_SECONDS
        while self._wait_for_lines(interval):
            if not self._ship():
                return
            interval = INTERVAL_SECONDS

    def _wait_for_lines(self, interval: float) -> bool:
        """Wait for a line, then a little for more of them; False when closed with none left."""
        with self._condition:
            while not self._closing and not self._spool.waiting_bytes:
                self._condition.wait()
            until = time.monotonic() + interval
            while not (self._closing or self._urgent):
                left = until - time.monotonic()
                if left <= 0 or self._spool.waiting_bytes >= BACKLOG_BYTES:
                    break
                self._condition.wait(left)
            self._urgent = False
            return bool(self._spool.waiting_bytes)

    def _ship(self) -> bool:
        """Ship until nothing waits; False when closing took too long."""
        attempt = 0
        while True:
            try:
                if not self._ship_batch():
                    return True
                attempt = 0
                self.last_problem = ""
            except (OSError, ServiceError) as problem:
                self.last_problem = str(problem)
                attempt += 1
                pause = jittered(attempt, RETRY_SECONDS_MAX)
                with self._condition:
                    if time.monotonic() + pause > self._give_up_at:
                        return False
                    self._condition.wait(pause)
            with self._condition:
                self._condition.notify_all()

    def _ship_batch(self) -> bool:
        if self._spool.dropped:
            self._tell_of_dropped()
        records, mark = self._spool.peek(
            BATCH_BYTES_MAX, BATCH_EVENTS_MAX, span=BATCH_MILLISECONDS_MAX
        )
        if not records:
            return False
        events = [
            {"timestamp": milliseconds, "message": piece.decode("utf-8")}
            for milliseconds, piece in records
        ]
        try:
            self._put(events)
        except ServiceError as refusal:
            if refusal.code not in UNACCEPTABLE or self._refusals < REFUSALS_MAX:
                self._refusals += refusal.code in UNACCEPTABLE
                raise
            # A batch that is never accepted must not hold up all that follow it.
            self._spool.dropped += len(records)
        self._refusals = 0
        self._spool.take(mark)
        return True

    def _tell_of_dropped(self) -> None:
        dropped, self._spool.dropped = self._spool.dropped, 0
        note = f"[clary] {dropped} log lines could not be kept and are missing here"
        if not self._spool.put(self._last_milliseconds, note.encode("utf-8")):
            self._spool.dropped = dropped

    def _put(self, events: list[dict[str, Any]]) -> None:
        assert self._log is not None, "the thread runs only where there is a log"
        where = {"logGroupName": self._log.group, "logStreamName": self._log.stream}
        try:
            if not self._has_stream:
                self._create(
                    self._log
                )  # a new host's stream is not there: to ask first is a call more
                self._has_stream = True
            try:
                self._service.call("PutLogEvents", {**where, "logEvents": events})
            except ServiceError as problem:
                if problem.code != "ResourceNotFoundException":
                    raise
                self._create(self._log)
                self._service.call("PutLogEvents", {**where, "logEvents": events})
        except ServiceError as problem:
            if problem.code != "DataAlreadyAcceptedException":
                raise

    def _create(self, log: Log) -> None:
        group = {"logGroupName": log.group}
        if not self._make("CreateLogStream", {**group, "logStreamName": log.stream}):
            self._make("CreateLogGroup", group)
            self._make("CreateLogStream", {**group, "logStreamName": log.stream})

    def _make(self, operation: str, document: dict[str, str]) -> bool:
        """True once it is there; False where the group that it belongs to is not."""
        try:
            self._service.call(operation, document)
        except ServiceError as problem:
            if problem.code == "ResourceNotFoundException":
                return False
            if problem.code != "ResourceAlreadyExistsException":
                raise
        return True


def _pieces(text: str) -> list[bytes]:
    """A line as messages that the service takes: not empty, and none too long."""
    data = text.encode("utf-8")
    if len(data) <= EVENT_BYTES_MAX:
        return [data or b" "]
    pieces: list[bytes] = []
    start = 0
    while start < len(data):
        end = min(start + EVENT_BYTES_MAX, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1  # back to where a character begins
        pieces.append(data[start:end])
        start = end
    return pieces
