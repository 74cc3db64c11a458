"""Metrics are read from lines as CloudWatch shows them, and sent in order and in bounds."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from clary.runner.metrics import MetricShipper, Scraper
from clary.runner.signing import Credentials
from clary.runner.spec import Metric

KEYS = Credentials("AKIAEXAMPLE", "secret", "", float("inf"))
NOW = 1_700_000_000.0
XGBOOST = Metric("validation:auc", r".*\[[0-9]+\].*#011validation-auc:([-+]?[0-9]*\.?[0-9]+).*")


@pytest.mark.parametrize(
    ("regex", "line", "value"),
    [
        (XGBOOST.regex, b"[12]\ttrain-auc:0.9\tvalidation-auc:0.812", 0.812),
        (r"auc\tis (\S+)", b"auc\tis 0.5", 0.5),
        (r"loss=([0-9.e+-]+)", b"epoch 1 loss=1.5e-3;", 0.0015),
        (r"loss=(\S+)", b"loss=nan", None),
        (r"loss=(\S+)", b"loss=oops", None),
        (r"(a)?loss=1", b"loss=1", None),
        (r"x=(\d+)", b"x=1 x=2", 1.0),
        (r"x=(\d+)", b"\xff\xfe x=3", 3.0),
        (r"x=(\d+)", b"y=3", None),
        (r"x=(\d+)", b" " * 9000 + b"x=1", None),
    ],
)
def test_the_first_group_of_a_match_is_the_value(regex, line, value):
    scraper = Scraper([Metric("m", regex)])
    found = scraper.feed(line, NOW)
    assert [point.value for point in found] == ([] if value is None else [value])
    assert scraper.final == ({} if value is None else {"m": (value, NOW)})


def test_the_last_value_of_each_metric_is_kept():
    scraper = Scraper([Metric("a", r"a=(\d+)"), Metric("b", r"b=(\d+)")])
    for number, line in enumerate((b"a=1", b"b=5", b"a=2 b=6", b"nothing")):
        scraper.feed(line, NOW + number)
    assert scraper.final == {"a": (2.0, NOW + 2), "b": (6.0, NOW + 2)}


def test_a_definition_that_cannot_be_used_is_told_and_the_others_work():
    scraper = Scraper([Metric("bad", "("), Metric("none", "x=1"), Metric("good", r"x=(\d)")])
    scraper.feed(b"x=1", NOW)
    assert scraper.final == {"good": (1.0, NOW)}
    assert [problem.split(":")[0] for problem in scraper.problems] == [
        "metric 'bad'",
        "metric 'none'",
    ]


def test_metrics_arrive_at_cloudwatch(make_spec, boto):
    now = time.time()
    spec = make_spec(
        metrics=[{"Name": "auc", "Regex": r"auc=(\S+)"}],
        metric_namespace="/aws/sagemaker/TrainingJobs",
        metric_dimensions={"TrainingJobName": "job-1"},
    )
    scraper = Scraper(spec.metrics)
    shipper = MetricShipper(spec, lambda: KEYS, scraper)
    for value in (b"0.5", b"0.75"):
        scraper.feed(b"auc=" + value, now)
    assert shipper.close()
    assert shipper.last_problem == ""
    moment = datetime.fromtimestamp(now, UTC)
    found = boto("cloudwatch").get_metric_statistics(
        Namespace="/aws/sagemaker/TrainingJobs",
        MetricName="auc",
        Dimensions=[{"Name": "TrainingJobName", "Value": "job-1"}],
        StartTime=moment - timedelta(minutes=5),
        EndTime=moment + timedelta(minutes=5),
        Period=600,
        Statistics=["SampleCount", "Maximum", "Minimum"],
    )["Datapoints"]
    assert [(point["SampleCount"], point["Minimum"], point["Maximum"]) for point in found] == [
        (2.0, 0.5, 0.75)
    ]


def test_batches_hold_a_thousand_and_a_refused_one_is_passed_over(make_spec, scripted, reply):
    server = scripted(lambda request: reply(400 if len(server.requests) == 1 else 200, b"{}"))
    spec = make_spec(metrics=[{"Name": "m", "Regex": r"m=(\d+)"}], endpoint_url=server.url)
    scraper = Scraper(spec.metrics)
    for number in range(2500):
        scraper.feed(b"m=%d" % number, NOW)
    shipper = MetricShipper(spec, lambda: KEYS, scraper, interval_seconds=60)
    assert shipper.close()
    sent = [request.document["MetricData"] for request in server.requests]
    assert [len(batch) for batch in sent] == [1000, 1000, 500]
    assert sent[2][-1] == {
        "MetricName": "m",
        "Dimensions": [],
        "Timestamp": NOW,
        "Value": 2499.0,
        "StorageResolution": 1,
    }
    headers = server.requests[0].headers
    assert headers["x-amz-target"] == "GraniteServiceVersion20100801.PutMetricData"
    assert headers["content-type"] == "application/x-amz-json-1.0"
    assert "/us-east-1/monitoring/aws4_request" in headers["authorization"]


def test_closing_gives_up_in_time(make_spec, scripted, reply):
    server = scripted(lambda request: reply(503))
    spec = make_spec(metrics=[{"Name": "m", "Regex": r"m=(\d+)"}], endpoint_url=server.url)
    scraper = Scraper(spec.metrics)
    scraper.feed(b"m=1", NOW)
    shipper = MetricShipper(spec, lambda: KEYS, scraper, interval_seconds=60)
    assert not shipper.close(0.3)
    assert shipper.last_problem.startswith("HTTPError (503)")
    shipper._service.close()
