"""Metric data: what was measured, when, and how it shrinks with age.

Each datum that arrives is one row. Reads add up the rows of a period in the database. `roll_up` merges
old rows into longer spans, so that what is kept stays bounded:

    as written (span 1)  --3 hours-->  1 minute  --15 days-->  5 minutes  --63 days-->  1 hour  --455 days-->  gone
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    String,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from clary.settings import Settings
from clary.store.connections import Statement
from clary.store.database import Store
from clary.store.metric_samples import Samples, merged
from clary.store.tables import RowId, metadata

HOUR = 3600
DAY = 24 * HOUR
# (age in seconds, span in seconds): rows older than the age are merged into spans of that length.
TIERS = ((3 * HOUR, 60), (15 * DAY, 300), (63 * DAY, HOUR))
AGE_SECONDS_MAX = 455 * DAY
ROLL_UP_ROWS = 5_000  # merged in one transaction
FRESHNESS_SECONDS = 60  # how exact `last_seen` is
SAMPLE_ROWS_MAX = 100_000  # of one request for percentiles

metrics = Table(
    "metrics",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    # Names and dimensions may be longer than an index entry, so their digest is the key.
    Column("identity", String, nullable=False, unique=True),
    Column("account", String, nullable=False),
    Column("region", String, nullable=False),
    Column("namespace", String, nullable=False),
    Column("name", String, nullable=False),
    Column("dimensions", Text, nullable=False),  # JSON: [[name, value], ...], sorted
    Column("last_seen", BigInteger, nullable=False),
)
Index("metrics_name", metrics.c.account, metrics.c.region, metrics.c.id)

points = Table(
    "metric_points",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("metric", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False),  # epoch seconds where the span begins
    Column("span", Integer, nullable=False),  # 1 as written, else the seconds it was rolled up to
    Column("unit", String, nullable=False),
    Column("count", Double, nullable=False),
    Column("sum", Double, nullable=False),
    Column("minimum", Double, nullable=False),
    Column("maximum", Double, nullable=False),
    Column("samples", Text, nullable=True),  # JSON: [[value, weight], ...]; null: see `_samples_of`
)
Index("metric_points_time", points.c.metric, points.c.time)
Index("metric_points_age", points.c.span, points.c.time)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric by name; `dimensions` are sorted (name, value) pairs."""

    account: str
    region: str
    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Datum:
    """One measurement, or a set of them that is already added up."""

    metric: Metric
    time: float
    unit: str
    count: float
    sum: float
    minimum: float
    maximum: float
    samples: Samples = ()  # what percentiles need, where minimum and maximum differ
    resolution: int = 60  # 1 for high-resolution metrics


@dataclass(frozen=True, slots=True)
class Period:
    """What was measured in one period, in one unit."""

    start: int
    unit: str
    count: float
    sum: float
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class MetricQuery:
    """Which metrics a page lists; `dimensions` with the value None match any value of that name."""

    account: str
    region: str
    namespace: str = ""
    name: str = ""
    dimensions: tuple[tuple[str, str | None], ...] = ()
    seen_since: float = 0.0
    after: int = 0  # id of the last metric of the page before
    limit: int = 500


_BY_IDENTITY = Statement(
    select(metrics.c.id, metrics.c.last_seen).where(metrics.c.identity == bindparam("identity"))
)
_BUCKET = (
    (points.c.time - bindparam("origin", type_=BigInteger)) // bindparam("period", type_=BigInteger)
).label("bucket")
_IN_RANGE = (
    points.c.metric == bindparam("metric"),
    points.c.time >= bindparam("start"),
    points.c.time < bindparam("end"),
)
_TOTALS = (
    func.sum(points.c.count),
    func.sum(points.c.sum),
    func.min(points.c.minimum),
    func.max(points.c.maximum),
)
_STATISTICS = Statement(
    select(_BUCKET, points.c.unit, *_TOTALS)
    .where(*_IN_RANGE)
    .group_by("bucket", points.c.unit)
    .order_by("bucket", points.c.unit)
)
_ANY_UNIT = Statement(
    select(_BUCKET, literal("").label("unit"), *_TOTALS)
    .where(*_IN_RANGE)
    .group_by("bucket")
    .order_by("bucket")
)
_ROWS = Statement(
    select(
        points.c.time,
        points.c.unit,
        points.c.count,
        points.c.minimum,
        points.c.maximum,
        points.c.samples,
    )
    .where(*_IN_RANGE)
    .order_by(points.c.time, points.c.id)
    .limit(SAMPLE_ROWS_MAX)
)


def put(telemetry: Store, data: Sequence[Datum], now: float | None = None) -> None:
    """Keep measurements, all or none; `now` is when they arrived."""
    arrived = int(time.time() if now is None else now)

    def work(connection: Connection) -> None:
        known: dict[Metric, int] = {}
        rows: list[dict[str, Any]] = []
        for datum in data:
            metric = known.get(datum.metric)
            if metric is None:
                metric = known[datum.metric] = _seen(connection, datum.metric, arrived)
            rows.append(_row(metric, datum))
        connection.execute(insert(points), rows)

    if data:
        telemetry.write(work)


def put_statistics(telemetry: Store, settings: Settings, batch: list[dict[str, Any]]) -> None:
    """Keep the counters that the door posts."""
    data: list[Datum] = []
    for entry in batch:
        metric = Metric(
            settings.account,
            entry.get("region") or settings.region,
            entry["namespace"],
            entry["metric"],
            tuple(sorted(entry["dimensions"].items())),
        )
        data.append(
            Datum(
                metric,
                float(entry["timestamp"]),
                entry["unit"],
                float(entry["count"]),
                float(entry["sum"]),
                float(entry["min"]),
                float(entry["max"]),
            )
        )
    put(telemetry, data)


def find(telemetry: Store, metric: Metric) -> int | None:
    """The id of a metric, None if nothing was ever put."""
    found = telemetry.database.fetch(_BY_IDENTITY, {"identity": _identity(metric)})
    return int(found[0][0]) if found else None


def statistics(
    telemetry: Store,
    metric: int,
    start: int,
    end: int,
    *,
    period: int,
    origin: int = 0,
    any_unit: bool = False,
) -> list[Period]:
    """What was measured in [start, end), period by period; empty periods are left out.

    Each unit has periods of its own; with `any_unit` they are added up, and the unit is "".
    """
    values = {"metric": metric, "start": start, "end": end, "period": period, "origin": origin}
    found = telemetry.database.fetch(_ANY_UNIT if any_unit else _STATISTICS, values)
    return [Period(origin + bucket * period, *rest) for bucket, *rest in found]


def values(telemetry: Store, metric: int, start: int, end: int) -> list[float]:
    """Every value that was put in [start, end), as long as none is rolled up; oldest first."""
    found = telemetry.database.fetch(_ROWS, {"metric": metric, "start": start, "end": end})
    return [minimum for _, _, count, minimum, _, _ in found if count == 1]


def samples(
    telemetry: Store,
    metric: int,
    start: int,
    end: int,
    *,
    period: int,
    origin: int = 0,
    any_unit: bool = False,
) -> dict[tuple[int, str], Samples | None]:
    """The weighted values of each (period, unit), for percentiles; None where some were not kept."""
    found: dict[tuple[int, str], list[Samples] | None] = {}
    values = {"metric": metric, "start": start, "end": end}
    for when, unit, count, minimum, maximum, kept in telemetry.database.fetch(_ROWS, values):
        key = (origin + (when - origin) // period * period, "" if any_unit else unit)
        group = found.setdefault(key, [])
        own = _samples_of(count, minimum, maximum, kept)
        if own is None:
            found[key] = None
        elif group is not None:
            group.append(own)
    return {key: None if group is None else merged(group) for key, group in found.items()}


def list_metrics(telemetry: Store, query: MetricQuery) -> tuple[list[Metric], int | None]:
    """One page of metrics, and the id after which the next begins (None at the end)."""
    listed: list[Metric] = []
    after = query.after
    while True:
        batch = _metrics_after(telemetry, query, after)
        for row in batch:
            dimensions = tuple((name, value) for name, value in orjson.loads(row.dimensions))
            if _has(dimensions, query.dimensions):
                if len(listed) == query.limit:
                    return listed, after
                listed.append(
                    Metric(query.account, query.region, row.namespace, row.name, dimensions)
                )
            after = int(row.id)
        if len(batch) < query.limit:
            return listed, None


def roll_up(telemetry: Store, now: float, *, batches_max: int = 20) -> int:
    """Merge what is old enough and drop what is too old; return how many rows were dealt with.

    Bounded: what is left over is done by the next call.
    """
    done = 0
    for _ in range(batches_max):
        dealt = telemetry.write(lambda connection: _roll_up_batch(connection, int(now)))
        done += dealt
        if dealt == 0:
            break
    return done


def _identity(metric: Metric) -> str:
    parts = [metric.account, metric.region, metric.namespace, metric.name, metric.dimensions]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def _seen(connection: Connection, metric: Metric, now: int) -> int:
    """The id of a metric, which is made if it is new."""
    identity = _identity(metric)
    known = select(metrics.c.id, metrics.c.last_seen).where(metrics.c.identity == identity)
    found = connection.execute(known).first()
    if found is None:
        # Two writers of PostgreSQL may both find a new metric: the second takes the first one's.
        with suppress(IntegrityError), connection.begin_nested():
            connection.execute(
                insert(metrics).values(
                    identity=identity,
                    account=metric.account,
                    region=metric.region,
                    namespace=metric.namespace,
                    name=metric.name,
                    dimensions=orjson.dumps(metric.dimensions).decode(),
                    last_seen=now,
                )
            )
        found = connection.execute(known).one()
    elif now - found.last_seen >= FRESHNESS_SECONDS:
        connection.execute(update(metrics).where(metrics.c.id == found.id).values(last_seen=now))
    return int(found.id)


def _row(metric: int, datum: Datum) -> dict[str, Any]:
    when = int(datum.time)
    return {
        "metric": metric,
        "time": when - when % max(1, datum.resolution),
        "span": 1,
        "unit": datum.unit,
        "count": datum.count,
        "sum": datum.sum,
        "minimum": datum.minimum,
        "maximum": datum.maximum,
        "samples": orjson.dumps(datum.samples).decode() if datum.samples else None,
    }


def _samples_of(count: float, minimum: float, maximum: float, kept: str | None) -> Samples | None:
    """A set whose extremes are equal needs no list of its values."""
    if kept:
        return tuple((value, weight) for value, weight in orjson.loads(kept))
    return ((minimum, count),) if minimum == maximum else None


def _metrics_after(telemetry: Store, query: MetricQuery, after: int) -> Sequence[Any]:
    statement = select(
        metrics.c.id, metrics.c.namespace, metrics.c.name, metrics.c.dimensions
    ).where(
        metrics.c.account == query.account,
        metrics.c.region == query.region,
        metrics.c.id > after,
        metrics.c.last_seen >= int(query.seen_since),
    )
    if query.namespace:
        statement = statement.where(metrics.c.namespace == query.namespace)
    if query.name:
        statement = statement.where(metrics.c.name == query.name)
    with telemetry.read() as connection:
        return connection.execute(statement.order_by(metrics.c.id).limit(query.limit)).all()


def _has(
    dimensions: tuple[tuple[str, str], ...], wanted: tuple[tuple[str, str | None], ...]
) -> bool:
    own = dict(dimensions)
    return all(name in own and value in (None, own[name]) for name, value in wanted)


def _roll_up_batch(connection: Connection, now: int) -> int:
    dropped = _aged(connection, now - AGE_SECONDS_MAX, [span for _, span in TIERS] + [1])
    if dropped:
        ids = [row.id for row in dropped]
        connection.execute(delete(points).where(points.c.id.in_(ids)))
        return len(ids)
    finer = [1]
    for age, span in TIERS:
        edge = now - age
        old = _aged(connection, edge - edge % span, finer)
        if old:
            connection.execute(delete(points).where(points.c.id.in_([row.id for row in old])))
            connection.execute(insert(points), _merged_rows(old, span))
            return len(old)
        finer.append(span)
    return 0


def _aged(connection: Connection, before: int, spans: Iterable[int]) -> Sequence[Any]:
    statement = (
        select(points)
        .where(points.c.span.in_(list(spans)), points.c.time < before)
        .order_by(points.c.time, points.c.id)
        .limit(ROLL_UP_ROWS)
    )
    return connection.execute(statement).all()


def _merged_rows(old: Sequence[Any], span: int) -> list[dict[str, Any]]:
    """Rows of one span each. A span that a batch cuts in two yields two rows, which reads add up."""
    groups: dict[tuple[int, int, str], list[Any]] = {}
    for row in old:
        groups.setdefault((row.metric, row.time - row.time % span, row.unit), []).append(row)
    rows: list[dict[str, Any]] = []
    for (metric, when, unit), group in groups.items():
        minimum = min(row.minimum for row in group)
        maximum = max(row.maximum for row in group)
        own = [_samples_of(row.count, row.minimum, row.maximum, row.samples) for row in group]
        kept = None
        if minimum != maximum and None not in own:
            kept = orjson.dumps(merged([one for one in own if one is not None])).decode()
        rows.append(
            {
                "metric": metric,
                "time": when,
                "span": span,
                "unit": unit,
                "count": sum(row.count for row in group),
                "sum": sum(row.sum for row in group),
                "minimum": minimum,
                "maximum": maximum,
                "samples": kept,
            }
        )
    return rows
