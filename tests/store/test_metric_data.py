"""Metric data: periods, percentiles, lists, and how old data shrink."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clary.settings import Settings
from clary.store import metric_data
from clary.store.database import Store
from clary.store.metric_data import DAY, HOUR, Datum, Metric, MetricQuery, Period
from clary.store.metric_samples import SAMPLES_MAX, between, merged, percentile

LOSS = Metric("123456789012", "us-east-1", "/aws/sagemaker/TrainingJobs", "loss", (("Job", "a"),))
NOON = 1_767_268_800


@pytest.fixture
def telemetry(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{tmp_path}/telemetry.db")
    yield store
    store.close()


def put(telemetry: Store, *values: tuple[float, float], metric: Metric = LOSS, unit: str = "None"):
    data = [
        Datum(metric, time, unit, 1.0, value, value, value, resolution=1) for time, value in values
    ]
    metric_data.put(telemetry, data, NOON)


def statistics(telemetry: Store, *, period: int, start: int = 0, end: int = 2 * NOON):
    metric = metric_data.find(telemetry, LOSS)
    assert metric is not None
    return metric_data.statistics(telemetry, metric, start, end, period=period)


def test_values_are_added_up_by_period(telemetry: Store) -> None:
    put(telemetry, (NOON + 1, 3.0), (NOON + 59, 5.0), (NOON + 60, 1.0), (NOON + 200, 7.0))
    assert statistics(telemetry, period=60) == [
        Period(NOON, "None", 2.0, 8.0, 3.0, 5.0),
        Period(NOON + 60, "None", 1.0, 1.0, 1.0, 1.0),
        Period(NOON + 180, "None", 1.0, 7.0, 7.0, 7.0),
    ]


def test_the_end_of_a_range_is_exclusive(telemetry: Store) -> None:
    put(telemetry, (NOON, 1.0), (NOON + 60, 2.0))
    assert [one.sum for one in statistics(telemetry, period=60, end=NOON + 60)] == [1.0]


def test_units_are_apart_unless_they_are_asked_for_together(telemetry: Store) -> None:
    put(telemetry, (NOON, 1.0), unit="Seconds")
    put(telemetry, (NOON, 2.0), unit="Count")
    assert [one.unit for one in statistics(telemetry, period=60)] == ["Count", "Seconds"]
    metric = metric_data.find(telemetry, LOSS)
    assert metric is not None
    together = metric_data.statistics(telemetry, metric, 0, 2 * NOON, period=60, any_unit=True)
    assert together == [Period(NOON, "", 2.0, 3.0, 1.0, 2.0)]


def test_metrics_with_other_dimensions_are_other_metrics(telemetry: Store) -> None:
    other = Metric(LOSS.account, LOSS.region, LOSS.namespace, LOSS.name, (("Job", "b"),))
    put(telemetry, (NOON, 1.0))
    put(telemetry, (NOON, 2.0), metric=other)
    assert [one.sum for one in statistics(telemetry, period=60)] == [1.0]
    nobody = Metric(LOSS.account, "eu-west-1", LOSS.namespace, LOSS.name, LOSS.dimensions)
    assert metric_data.find(telemetry, nobody) is None


def test_the_counters_of_the_door_are_kept_by_region(telemetry: Store) -> None:
    entry = {
        "namespace": "AWS/SageMaker",
        "metric": "ModelLatency",
        "region": "eu-west-1",
        "dimensions": {"VariantName": "AllTraffic", "EndpointName": "churn"},
        "timestamp": NOON + 30.5,
        "unit": "Microseconds",
        "sum": 900.0,
        "count": 3,
        "min": 200.0,
        "max": 400.0,
    }
    settings = Settings(account="123456789012")
    metric_data.put_statistics(telemetry, settings, [entry, entry])
    dimensions = (("EndpointName", "churn"), ("VariantName", "AllTraffic"))
    metric = Metric("123456789012", "eu-west-1", "AWS/SageMaker", "ModelLatency", dimensions)
    row = metric_data.find(telemetry, metric)
    assert row is not None
    assert metric_data.statistics(telemetry, row, NOON, NOON + 60, period=60) == [
        Period(NOON, "Microseconds", 6.0, 1800.0, 200.0, 400.0)
    ]


def test_percentiles_need_every_value_of_the_period(telemetry: Store) -> None:
    put(telemetry, *[(NOON + second, float(second)) for second in range(11)])
    metric = metric_data.find(telemetry, LOSS)
    assert metric is not None
    kept = metric_data.samples(telemetry, metric, NOON, NOON + 60, period=60)[NOON, "None"]
    assert kept is not None
    assert (percentile(kept, 50), percentile(kept, 90), percentile(kept, 100)) == (5.0, 9.0, 10.0)
    only_sums = Datum(LOSS, NOON + 20, "None", 2.0, 5.0, 1.0, 4.0)
    metric_data.put(telemetry, [only_sums], NOON)
    assert metric_data.samples(telemetry, metric, NOON, NOON + 60, period=60) == {
        (NOON, "None"): None
    }


def test_percentiles_lie_between_neighbours() -> None:
    samples = merged([((1.0, 1.0), (2.0, 2.0)), ((10.0, 1.0),)])
    assert samples == ((1.0, 1.0), (2.0, 2.0), (10.0, 1.0))
    assert percentile(samples, 0) == 1.0
    assert percentile(samples, 50) == 2.0
    assert percentile(samples, 90) == pytest.approx(2.0 + 8.0 * 0.7)


def test_many_samples_are_thinned_and_keep_their_extremes_and_weight() -> None:
    samples = merged([tuple((float(value), 1.0) for value in range(10_000))])
    assert len(samples) <= SAMPLES_MAX
    assert (samples[0][0], samples[-1][0]) == (0.0, 9_999.0)
    assert sum(weight for _, weight in samples) == 10_000
    assert percentile(samples, 50) == pytest.approx(5_000, rel=0.01)


def test_a_part_of_the_samples_keeps_the_weight_inside() -> None:
    samples = ((1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (4.0, 1.0))
    assert between(samples, 25, 75) == ((2.0, 1.0), (3.0, 1.0))
    assert between(samples, 0, 90)[-1] == (4.0, pytest.approx(0.6))


def test_metrics_are_listed_by_filter_in_pages(telemetry: Store) -> None:
    names = [f"m{number}" for number in range(5)]
    for name in names:
        dimensions = (("Host", "h"), ("Job", name))
        metric = Metric(LOSS.account, LOSS.region, "mine", name, dimensions)
        put(telemetry, (NOON, 1.0), metric=metric)
    put(telemetry, (NOON, 1.0))
    listed: list[str] = []
    after: int | None = 0
    while after is not None:
        query = MetricQuery(
            LOSS.account,
            LOSS.region,
            dimensions=(("Host", None), ("Job", None)),
            after=after,
            limit=2,
        )
        page, after = metric_data.list_metrics(telemetry, query)
        assert len(page) <= 2
        listed += [metric.name for metric in page]
    assert listed == names
    query = MetricQuery(LOSS.account, LOSS.region, dimensions=(("Job", "m3"),))
    assert [metric.name for metric in metric_data.list_metrics(telemetry, query)[0]] == ["m3"]
    recent = MetricQuery(LOSS.account, LOSS.region, seen_since=NOON + 1)
    assert metric_data.list_metrics(telemetry, recent) == ([], None)


def rows(telemetry: Store) -> list[tuple[int, int]]:
    with telemetry.read() as connection:
        found = connection.execute(metric_data.points.select()).all()
    return sorted((row.time - NOON, row.span) for row in found)


def test_old_values_become_minutes_then_five_minutes_then_hours_then_nothing(
    telemetry: Store,
) -> None:
    put(telemetry, *[(NOON + second, float(second)) for second in range(0, 600, 10)])
    before = statistics(telemetry, period=300)
    assert metric_data.roll_up(telemetry, NOON + 600) == 0
    metric_data.roll_up(telemetry, NOON + 3 * HOUR + 660)
    assert rows(telemetry) == [(minute * 60, 60) for minute in range(10)]
    assert statistics(telemetry, period=300) == before
    metric_data.roll_up(telemetry, NOON + 15 * DAY + 660)
    assert rows(telemetry) == [(0, 300), (300, 300)]
    assert statistics(telemetry, period=300) == before
    metric_data.roll_up(telemetry, NOON + 63 * DAY + 2 * HOUR)
    assert rows(telemetry) == [(0, HOUR)]
    metric_data.roll_up(telemetry, NOON + 456 * DAY)
    assert rows(telemetry) == []


def test_rolled_up_values_still_have_percentiles(telemetry: Store) -> None:
    put(telemetry, *[(NOON + second, float(second)) for second in range(60)])
    metric_data.roll_up(telemetry, NOON + 4 * HOUR)
    metric = metric_data.find(telemetry, LOSS)
    assert metric is not None
    kept = metric_data.samples(telemetry, metric, NOON, NOON + 60, period=60)[NOON, "None"]
    assert kept is not None
    assert percentile(kept, 50) == pytest.approx(29.5)
