"""What is under way: peaks for CloudWatch, and current values for Prometheus."""

from __future__ import annotations

import asyncio
import json

import pytest

from clary.dataplane.exposition import exposition
from clary.dataplane.gauges import Gauges
from clary.dataplane.invocation_metrics import InvocationMetrics
from clary.dataplane.multi_model import Models
from clary.dataplane.routes import RoutingTable
from clary.dataplane.serverless import Serverless


def endpoint(*variants, **extra):
    return {
        "arn": "a", "account": "1", "status": "InService", "variants": list(variants), **extra,
    }  # fmt: skip


def instance(name):
    return {"id": name, "socket": f"/nowhere/{name}.sock", "models": "/nowhere/models"}


@pytest.fixture
def gauged(tmp_path):
    """What a table of endpoints is told, after something was done to it."""

    def measure(endpoints, work):
        path = tmp_path / "routes.json"
        path.write_text(json.dumps({"endpoints": endpoints}))

        async def main():
            routes, metrics = RoutingTable(path), InvocationMetrics()
            models = Models(None, None, metrics)
            serverless = Serverless(routes, None, metrics)
            gauges = Gauges(routes, metrics, models, serverless)
            found = []
            for step in work:
                step(routes, models, serverless)
                gauges.observe()
                metrics.collect()
                found.append(
                    {
                        (one["namespace"], one["metric"], one["dimensions"].get("VariantName")): (
                            one["count"],
                            one["max"],
                        )
                        for one in metrics._pending
                    }
                )
                metrics._pending.clear()
            return found, exposition({}, {}, gauges.rows()).decode()

        return asyncio.run(main())

    return measure


def test_the_peak_of_each_instance_is_told_and_so_is_idleness_after_it(gauged):
    endpoints = {
        "us-east-1/iris": endpoint(
            {"name": "main", "weight": 1, "instances": [instance("a"), instance("b")]}
        )
    }

    def busy(routes, models, serverless):
        lanes = routes.find("us-east-1", "iris").variants[0].instances[0].lanes
        lanes.peak = 5

    def idle(routes, models, serverless):
        pass

    (before, first, second), text = gauged(endpoints, [idle, busy, idle])
    key = ("AWS/SageMaker", "ConcurrentRequestsPerModel", "main")
    assert key not in before
    assert (first[key], second[key]) == ((2, 5.0), (2, 0.0))
    labels = '{region="us-east-1",endpoint="iris",variant="main"}'
    assert f"clary_concurrent_requests{labels} 0\n" in text
    assert f"clary_instances{labels} 2\n" in text
    assert "# TYPE clary_instances gauge\n" in text


def test_models_in_memory_and_serverless_concurrency_are_told(gauged):
    endpoints = {
        "us-east-1/many": endpoint(
            {
                "name": "all", "weight": 1, "instances": [instance("m")],
                "multi_model": {"prefix": "s3://b/", "cached": True},
            },
        ),
        "us-east-1/rare": endpoint(
            {
                "name": "now", "weight": 1, "instances": [],
                "serverless": {"MaxConcurrency": 4, "ProvisionedConcurrency": 2},
            },
        ),
    }  # fmt: skip

    def work(routes, models, serverless):
        (many,) = routes.find("us-east-1", "many").variants[0].instances
        for name in ("x", "y", "z"):
            models.shelf(many).started(name)
        rare = routes.find("us-east-1", "rare").variants[0]
        serverless.begin(rare)
        serverless.end(rare)

    (told,), text = gauged(endpoints, [work])
    assert told["/aws/sagemaker/Endpoints", "LoadedModelCount", "all"] == (1, 3.0)
    shares = {metric: one for (_, metric, variant), one in told.items() if variant == "now"}
    assert shares == {
        "ServerlessConcurrentExecutionsUtilization": (1, 0.25),
        "ServerlessProvisionedConcurrencyUtilization": (1, 0.5),
    }
    assert 'clary_loaded_models{region="us-east-1",endpoint="many",variant="all"} 3\n' in text


def test_copies_of_a_component_are_told_by_its_name(gauged):
    fleet = {"name": "main", "weight": 1, "instances": [instance("c")]}
    endpoints = {
        "us-east-1/host": endpoint(
            {"name": "main", "weight": 1, "instances": []},
            hosts_components=True,
            components={"llm": [fleet]},
        )
    }

    def busy(routes, models, serverless):
        (copy,) = routes.find("us-east-1", "host").components["llm"][0].instances
        copy.lanes.peak = 3

    (told,), _ = gauged(endpoints, [busy])
    assert told["AWS/SageMaker", "ConcurrentRequestsPerCopy", None] == (1, 3.0)
