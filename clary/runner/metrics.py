"""Metrics read from log lines by their regular expressions, and sent to CloudWatch."""

from __future__ import annotations

import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from .connections import jittered
from .lines import shown
from .service_calls import Service, ServiceError
from .signing import Credentials
from .spec import HostSpec, Metric, MetricPlace

# A user's expression may take exponential time, and nothing can interrupt it: lines stay short.
LINE_BYTES_MAX = 8 * 1024
WAITING_MAX = 100_000
BATCH_MAX = 1000  # of one PutMetricData
INTERVAL_SECONDS = 1.0
CLOSE_SECONDS = 5.0
RETRY_SECONDS_MAX = 5.0


class Datapoint(NamedTuple):
    name: str
    value: float
    at: float
    unit: str = ""


class Source(Protocol):
    """Where a shipper gets its values from."""

    def take(self, count: int) -> list[Datapoint]:
        """The oldest values that wait to be shipped, taken away."""
        ...


class Scraper:
    """Reads every line; keeps the last value of each metric, and each value until it is shipped."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._patterns: list[tuple[str, re.Pattern[str]]] = []
        self._waiting: deque[Datapoint] = deque(maxlen=WAITING_MAX)
        self.final: dict[str, tuple[float, float]] = {}  # name: last value and its time
        self.problems: list[str] = []  # definitions that cannot be used, for the job's log
        for metric in metrics:
            try:
                pattern = re.compile(metric.regex)
            except (re.error, RecursionError, OverflowError) as problem:
                self.problems.append(
                    f"metric {metric.name!r}: {metric.regex!r} is not a regular expression: "
                    f"{problem}"
                )
                continue
            if not pattern.groups:
                self.problems.append(
                    f"metric {metric.name!r}: {metric.regex!r} has no group to take a number from"
                )
                continue
            self._patterns.append((metric.name, pattern))

    def feed(self, line: bytes, at: float | None = None) -> list[Datapoint]:
        """The metrics of one line. A tab matches as `#011`, as in CloudWatch, or as itself."""
        if not self._patterns or len(line) > LINE_BYTES_MAX:
            return []
        moment = time.time() if at is None else at
        text = shown(line)
        raw = line.decode("utf-8", "replace") if b"\t" in line else ""
        found: list[Datapoint] = []
        for name, pattern in self._patterns:
            match = pattern.search(text) or (pattern.search(raw) if raw else None)
            value = _number(match.group(1)) if match else None
            if value is not None:
                found.append(Datapoint(name, value, moment))
                self.final[name] = (value, moment)
        self._waiting.extend(found)
        return found

    def take(self, count: int) -> list[Datapoint]:
        """The oldest values that wait to be shipped, taken away."""
        taken: list[Datapoint] = []
        while self._waiting and len(taken) < count:
            taken.append(self._waiting.popleft())
        return taken


class MetricShipper:
    """Sends what a source has, about once a second; bounded memory, best effort at the end.

    Without a `place`, values go where the spec has the metrics of the job itself.
    """

    def __init__(
        self,
        spec: HostSpec,
        provider: Callable[[], Credentials],
        source: Source,
        *,
        place: MetricPlace | None = None,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._source = source
        self._interval_seconds = interval_seconds
        self._resolution = 60 if place else 1  # a job may print many values in a minute
        self._place = place or MetricPlace(spec.metric_namespace, spec.metric_dimensions)
        self._service = Service(
            spec.endpoint_url,
            spec.region,
            provider,
            signing_name="monitoring",
            target="GraniteServiceVersion20100801",
            version="1.0",
        )
        self._stop = threading.Event()
        self._is_abandoned = False
        self._thread: threading.Thread | None = None
        self._batch: list[Datapoint] = []
        self.last_problem = ""
        if spec.metrics or place:
            self._thread = threading.Thread(target=self._work, name="metrics", daemon=True)
            self._thread.start()

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Send what is left; False when that could not be done in time."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                return False
        deadline = time.monotonic() + seconds
        attempt = 0
        while not self._send_all():
            attempt += 1
            pause = jittered(attempt, RETRY_SECONDS_MAX)
            if time.monotonic() + pause > deadline:
                return False
            time.sleep(pause)
        self._service.close()
        return True

    def abandon(self) -> None:
        """Send nothing more, and wait for nothing: the thread ends by itself, with its connections."""
        self._is_abandoned = True
        self._stop.set()

    def _work(self) -> None:
        attempt = 0
        pause = self._interval_seconds
        while not self._stop.wait(pause):
            attempt = 0 if self._send_all() else attempt + 1
            pause = self._interval_seconds + (
                jittered(attempt, RETRY_SECONDS_MAX) if attempt else 0.0
            )
        if self._is_abandoned:
            self._service.close()

    def _send_all(self) -> bool:
        while True:
            self._batch = self._batch or self._source.take(BATCH_MAX)
            if not self._batch:
                return True
            try:
                self._service.call("PutMetricData", self._document(self._batch))
                self.last_problem = ""
            except ServiceError as problem:
                self.last_problem = str(problem)
                if not 400 <= problem.status < 500 or "Throttling" in problem.code:
                    return False
                if problem.code in ("AccessDenied", "AccessDeniedException") or (
                    problem.code.startswith("ExpiredToken")
                ):
                    return False
            except OSError as problem:
                self.last_problem = str(problem)
                return False
            # Sent, or refused for good: values that are not accepted must not hold up the rest.
            self._batch = []

    def _document(self, batch: Sequence[Datapoint]) -> dict[str, object]:
        dimensions = [
            {"Name": name, "Value": value} for name, value in self._place.dimensions.items()
        ]
        return {
            "Namespace": self._place.namespace,
            "MetricData": [
                {
                    "MetricName": point.name,
                    "Dimensions": dimensions,
                    "Timestamp": point.at,
                    "Value": point.value,
                    "StorageResolution": self._resolution,
                    **({"Unit": point.unit} if point.unit else {}),
                }
                for point in batch
            ],
        }


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
