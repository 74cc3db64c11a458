"""What CloudWatch shows of an endpoint, counted in memory and posted to control."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clary.dataplane.forwarding import ControlLink
from clary.dataplane.upstream import UpstreamFailure

log = logging.getLogger(__name__)

NAMESPACE = "AWS/SageMaker"
POST_INTERVAL_SECONDS = 5.0
PENDING_MAX = 10_000  # datums kept while control is away; the oldest go first
POST_DATUMS_MAX = 1_000


@dataclass(slots=True)
class StatisticSet:
    """Count, sum and extremes of one metric, as CloudWatch's StatisticValues."""

    count: int = 0
    sum: float = 0.0
    min: float = float("inf")
    max: float = float("-inf")

    def add(self, value: float) -> None:
        self.count += 1
        self.sum += value
        if value < self.min:
            self.min = value
        if value > self.max:
            self.max = value


def _units() -> dict[str, StatisticSet]:
    return {name: StatisticSet() for name in UNITS}


# Every request is a datum of each metric: an error metric counts a 0 for each success, so that its
# average is the error rate (CloudWatch metrics for SageMaker endpoint invocations).
UNITS = {
    "Invocations": "None",
    "InvocationsPerInstance": "None",
    "Invocation4XXErrors": "None",
    "Invocation5XXErrors": "None",
    "InvocationModelErrors": "None",
    "ModelLatency": "Microseconds",
    "OverheadLatency": "Microseconds",
}


@dataclass(slots=True)
class _Variant:
    region: str
    endpoint: str
    variant: str
    sets: dict[str, StatisticSet] = field(default_factory=_units)


class InvocationMetrics:
    """Counts invocations and hands them to control; bounded while control is away."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._current: dict[tuple[str, str, str], _Variant] = {}
        self._pending: deque[dict[str, Any]] = deque(maxlen=PENDING_MAX)
        self.dropped = 0

    def record(
        self,
        region: str,
        endpoint: str,
        variant: str,
        *,
        instances: int,
        status: int,
        model_failed: bool,
        model_seconds: float,
        overhead_seconds: float,
    ) -> None:
        key = (region, endpoint, variant)
        counted = self._current.get(key)
        if counted is None:
            counted = self._current[key] = _Variant(region, endpoint, variant)
        sets = counted.sets
        sets["Invocations"].add(1)
        sets["InvocationsPerInstance"].add(1 / max(1, instances))
        sets["Invocation4XXErrors"].add(1 if 400 <= status < 500 else 0)
        sets["Invocation5XXErrors"].add(1 if status >= 500 else 0)
        sets["InvocationModelErrors"].add(1 if model_failed else 0)
        sets["ModelLatency"].add(model_seconds * 1e6)
        sets["OverheadLatency"].add(max(0.0, overhead_seconds) * 1e6)

    def collect(self) -> None:
        """Turn what was counted since the last time into datums that wait to be posted."""
        taken, self._current = self._current, {}
        timestamp = self._clock()
        for counted in taken.values():
            for metric, statistics in counted.sets.items():
                if len(self._pending) == PENDING_MAX:
                    self.dropped += 1
                self._pending.append(
                    {
                        "namespace": NAMESPACE,
                        "metric": metric,
                        "region": counted.region,
                        "dimensions": {
                            "EndpointName": counted.endpoint,
                            "VariantName": counted.variant,
                        },
                        "timestamp": timestamp,
                        "unit": UNITS[metric],
                        "sum": statistics.sum,
                        "count": statistics.count,
                        "min": statistics.min,
                        "max": statistics.max,
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
        while True:
            await asyncio.sleep(POST_INTERVAL_SECONDS)
            await self.post(control)
