"""What is counted of invocations, and how it is told."""

from __future__ import annotations

import urllib.error
import urllib.request

from clary.dataplane.exposition import exposition
from clary.dataplane.invocation_metrics import InvocationMetrics

KEY = ("us-east-1", "iris", "main")


def counted():
    metrics = InvocationMetrics(clock=lambda: 7.0)
    metrics.record(KEY, 2, 200, False, 0.002, 0.0001)
    metrics.record(KEY, 2, 200, False, 0.004, 0.0003)
    metrics.record(KEY, 2, 400, True, 0.001, 0.0002)
    metrics.record(KEY, 2, 500, True, 70.0, -0.1)
    return metrics


def test_every_invocation_is_a_datum_of_every_metric():
    metrics = counted()
    metrics.collect()
    found = {one["metric"]: one for one in metrics._pending}
    assert found["Invocations"]["sum"] == 4
    assert found["InvocationsPerInstance"]["sum"] == 2.0
    assert (found["Invocation4XXErrors"]["sum"], found["Invocation4XXErrors"]["count"]) == (1, 4)
    assert (found["Invocation5XXErrors"]["min"], found["Invocation5XXErrors"]["max"]) == (0, 1)
    assert found["InvocationModelErrors"]["sum"] == 2
    assert found["ModelLatency"]["max"] == 70_000_000
    assert found["OverheadLatency"]["min"] == 0
    assert found["ModelLatency"]["dimensions"] == {"EndpointName": "iris", "VariantName": "main"}
    assert {one["timestamp"] for one in found.values()} == {7.0}


def test_other_metrics_are_added_up_by_their_dimensions():
    metrics = InvocationMetrics()
    for value in (3.0, 5.0):
        metrics.observe(
            "TimeInBacklog", "us-east-1", (("EndpointName", "a"),), "Milliseconds", value
        )
    metrics.observe("TimeInBacklog", "us-east-1", (("EndpointName", "b"),), "Milliseconds", 1.0)
    metrics.collect()
    a, b = metrics._pending
    assert (a["count"], a["sum"], a["min"], a["max"]) == (2, 8.0, 3.0, 5.0)
    assert b["dimensions"] == {"EndpointName": "b"}


def test_totals_go_on_where_the_posted_windows_begin_anew():
    metrics = counted()
    metrics.collect()
    metrics.record(KEY, 1, 200, False, 0.002, 0.0001)
    metrics.collect()
    assert metrics.totals[KEY].invocations == 5
    text = exposition(metrics.totals, {"clary_captured_records_total": 3}).decode()
    labels = 'region="us-east-1",endpoint="iris",variant="main"'
    assert f"clary_invocations_total{{{labels}}} 5\n" in text
    assert f"clary_invocation_5xx_errors_total{{{labels}}} 1\n" in text
    assert f'clary_model_latency_seconds_bucket{{{labels},le="0.0025"}} 3\n' in text
    assert f'clary_model_latency_seconds_bucket{{{labels},le="60"}} 4\n' in text
    assert f'clary_model_latency_seconds_bucket{{{labels},le="+Inf"}} 5\n' in text
    assert f"clary_model_latency_seconds_count{{{labels}}} 5\n" in text
    assert "clary_captured_records_total 3\n" in text


def test_the_door_tells_prometheus(door, home, serve_unix, set_routes):
    serve_unix(home / "m.sock", lambda seen: (200, {}, b"1"))
    variant = {
        "name": "main",
        "weight": 1,
        "instances": [{"id": "i", "socket": str(home / "m.sock")}],
    }
    set_routes(
        {
            "us-east-1/iris": {
                "arn": "a",
                "account": "1",
                "status": "InService",
                "variants": [variant],
            }
        }
    )
    signed = (
        "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/sagemaker/aws4_request, "
        "SignedHeaders=host, Signature=0"
    )
    request = urllib.request.Request(
        f"{door.url}/endpoints/iris/invocations", b"1", {"Authorization": signed}
    )
    urllib.request.urlopen(request).close()
    with urllib.request.urlopen(f"{door.url}/_clary/metrics") as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        text = answer.read().decode()
    assert 'clary_invocations_total{region="us-east-1",endpoint="iris",variant="main"} 1' in text
    try:
        urllib.request.urlopen(f"{door.url}/_clary/metrics", data=b"[]").close()
        raise AssertionError("posting metrics from outside must not work")
    except urllib.error.HTTPError as refusal:
        assert refusal.code == 404
        refusal.close()
