"""What CloudWatch shows of an endpoint, counted in memory and posted to control."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Any

from clary.dataplane.forwarding import ControlLink
from clary.dataplane.upstream import UpstreamFailure

log = logging.getLogger(__name__)

NAMESPACE = "AWS/SageMaker"
ENDPOINTS_NAMESPACE = "/aws/sagemaker/Endpoints"
POST_INTERVAL_SECONDS = 5.0
GAUGE_SECONDS = 10.0
PENDING_MAX = 10_000  # datums kept while control is away; the oldest go first
POST_DATUMS_MAX = 1_000
TOTALS_MAX = 10_000  # variants whose totals are kept; the oldest go first
LATENCY_BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)  # seconds

Key = tuple[str, str, str]  # region, endpoint, variant
Dimensions = tuple[tuple[str, str], ...]


class StatisticSet:
    """Count, sum and extremes of one metric, as CloudWatch's StatisticValues."""

    __slots__ = ("count", "max", "min", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0
        self.min = float("inf")
        self.max = float("-inf")

    def add(self, value: float) -> None:
        self.count += 1
        self.sum += value
        if value < self.min:
            self.min = value
        if value > self.max:
            self.max = value

    def merge(self, other: StatisticSet) -> None:
        self.count += other.count
        self.sum += other.sum
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)


class Counters:
    """What is counted of one variant. Every request is a datum of each metric: an error metric
    counts a 0 for each success, so that its average is the error rate.
    """

    __slots__ = (
        "client_errors",
        "invocations",
        "model",
        "model_buckets",
        "model_errors",
        "overhead",
        "overhead_buckets",
        "server_errors",
        "shares",
    )

    def __init__(self) -> None:
        self.invocations = 0
        self.client_errors = 0
        self.server_errors = 0
        self.model_errors = 0
        self.shares = StatisticSet()  # of an invocation for each instance: 1/n
        self.model = StatisticSet()
        self.overhead = StatisticSet()
        self.model_buckets = [0] * (len(LATENCY_BUCKETS) + 1)
        self.overhead_buckets = [0] * (len(LATENCY_BUCKETS) + 1)

    def merge(self, other: Counters) -> None:
        self.invocations += other.invocations
        self.client_errors += other.client_errors
        self.server_errors += other.server_errors
        self.model_errors += other.model_errors
        self.shares.merge(other.shares)
        self.model.merge(other.model)
        self.overhead.merge(other.overhead)
        for own, others in (
            (self.model_buckets, other.model_buckets),
            (self.overhead_buckets, other.overhead_buckets),
        ):
            own[:] = [one + two for one, two in zip(own, others, strict=True)]

    def datums(self) -> list[tuple[str, str, int, float, float, float]]:
        """(metric, unit, count, sum, minimum, maximum) of each metric."""
        count = self.invocations
        rows = [("Invocations", "None", count, float(count), 1.0, 1.0)]
        shares = self.shares
        rows.append(("InvocationsPerInstance", "None", count, shares.sum, shares.min, shares.max))
        for name, failed in (
            ("Invocation4XXErrors", self.client_errors),
            ("Invocation5XXErrors", self.server_errors),
            ("InvocationModelErrors", self.model_errors),
        ):
            low, high = float(failed == count), float(failed > 0)
            rows.append((name, "None", count, float(failed), low, high))
        for name, seconds in (("ModelLatency", self.model), ("OverheadLatency", self.overhead)):
            micro = (seconds.sum * 1e6, seconds.min * 1e6, seconds.max * 1e6)
            rows.append((name, "Microseconds", count, *micro))
        return rows


class InvocationMetrics:
    """Counts invocations and hands them to control; bounded while control is away."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._current: dict[Key, Counters] = {}
        self._observed: dict[tuple[str, str, str, Dimensions, str], StatisticSet] = {}
        self._pending: deque[dict[str, Any]] = deque(maxlen=PENDING_MAX)
        self.totals: dict[Key, Counters] = {}  # since the door started
        self.dropped = 0
        self.gauge: Callable[[], None] = lambda: None  # called every GAUGE_SECONDS

    def record(
        self,
        key: Key,
        instances: int,
        status: int,
        model_failed: bool,
        model_seconds: float,
        overhead_seconds: float,
    ) -> None:
        """Count one invocation of a variant."""
        counters = self._current.get(key)
        if counters is None:
            counters = self._current[key] = Counters()
        counters.invocations += 1
        counters.shares.add(1 / instances if instances else 1.0)
        if status >= 400:
            if status >= 500:
                counters.server_errors += 1
            else:
                counters.client_errors += 1
        if model_failed:
            counters.model_errors += 1
        counters.model.add(model_seconds)
        counters.model_buckets[bisect_left(LATENCY_BUCKETS, model_seconds)] += 1
        if overhead_seconds < 0.0:
            overhead_seconds = 0.0
        counters.overhead.add(overhead_seconds)
        counters.overhead_buckets[bisect_left(LATENCY_BUCKETS, overhead_seconds)] += 1

    def observe(
        self,
        metric: str,
        region: str,
        dimensions: Dimensions,
        unit: str,
        value: float,
        namespace: str = NAMESPACE,
    ) -> None:
        """Add one value of any other metric."""
        key = (namespace, metric, region, dimensions, unit)
        found = self._observed.get(key)
        if found is None:
            found = self._observed[key] = StatisticSet()
        found.add(value)

    def collect(self) -> None:
        """Turn what was counted since the last time into datums that wait to be posted."""
        taken, self._current = self._current, {}
        for key, counters in taken.items():
            region, endpoint, variant = key
            dimensions = {"EndpointName": endpoint, "VariantName": variant}
            for metric, unit, *numbers in counters.datums():
                self._wait(NAMESPACE, metric, region, dimensions, unit, *numbers)
            total = self.totals.get(key)
            if total is None:
                if len(self.totals) >= TOTALS_MAX:
                    del self.totals[next(iter(self.totals))]
                total = self.totals[key] = Counters()
            total.merge(counters)
        observed, self._observed = self._observed, {}
        for (namespace, metric, region, pairs, unit), one in observed.items():
            numbers = (one.count, one.sum, one.min, one.max)
            self._wait(namespace, metric, region, dict(pairs), unit, *numbers)

    def _wait(
        self,
        namespace: str,
        metric: str,
        region: str,
        dimensions: dict[str, str],
        unit: str,
        count: float,
        total: float,
        low: float,
        high: float,
    ) -> None:
        if len(self._pending) == PENDING_MAX:
            self.dropped += 1
        self._pending.append(
            {
                "namespace": namespace,
                "metric": metric,
                "region": region,
                "dimensions": dimensions,
                "timestamp": self._clock(),
                "unit": unit,
                "sum": total,
                "count": count,
                "min": low,
                "max": high,
            }
        )

    async def post(self, control: ControlLink) -> bool:
        """Post what waits, oldest first; False leaves the rest for the next time."""
        self.collect()
        while self._pending:
            batch = [
                self._pending[index] for index in range(min(POST_DATUMS_MAX, len(self._pending)))
            ]
            try:
                status, _ = await control.ask("POST", "/_clary/metrics", json.dumps(batch).encode())
            except UpstreamFailure as problem:
                log.info("invocation metrics wait for control: %s", problem)
                return False
            if status >= 500:
                return False
            if status >= 400:
                log.error("control refused %d metric datums with status %d", len(batch), status)
            for _ in batch:
                self._pending.popleft()
        if self.dropped:
            log.warning("%d metric datums were dropped while control was away", self.dropped)
            self.dropped = 0
        return True

    async def post_for_ever(self, control: ControlLink) -> None:
        gauged = 0.0
        while True:
            await asyncio.sleep(POST_INTERVAL_SECONDS)
            if time.monotonic() - gauged > GAUGE_SECONDS - POST_INTERVAL_SECONDS / 2:
                gauged = time.monotonic()
                self.gauge()
            await self.post(control)
