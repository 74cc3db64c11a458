"""Serverless endpoints: no host before the first request, none after the last, and bounds in between."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from botocore.config import Config

from clary.reconcile.decisions import Become
from clary.reconcile.observations import Running
from clary.reconcile.seen import Seen
from clary.resources.inference.endpoint_plan import plan_endpoint
from clary.resources.inference.scale_to_zero import IDLE_SECONDS, woken
from clary.store.rows import Row
from tests.journeys.conftest import archive, wait_until
from tests.resources.inference.conftest import SCRIPT, Load, unique

pytestmark = pytest.mark.xdist_group("endpoints")


def serverless(model: str, concurrency: int = 4, **more) -> dict:
    settings = {"MemorySizeInMB": 1024, "MaxConcurrency": concurrency, **more}
    return {"VariantName": "A", "ModelName": model, "ServerlessConfig": settings}


def hosts_of(server) -> list:
    newest = max(server.home.glob("work/*"), key=lambda path: int(path.name), default=None)
    return list(newest.glob("g1/A-r*")) if newest else []


def test_the_first_request_starts_a_host_and_waits_for_it(hosting, server):
    # The environment is made ready, and kept so, by another endpoint of the same image.
    warm = hosting.endpoint(hosting.config(serverless(hosting.model("warm"))))
    assert hosting.invoke(warm) == "warm(x)"
    before = len(list(server.home.glob("work/*")))
    name = hosting.endpoint(hosting.config(serverless(hosting.model("cold"))))
    assert len(list(server.home.glob("work/*"))) == before
    shown = hosting.described(name)["ProductionVariants"][0]
    assert shown["CurrentServerlessConfig"]["MaxConcurrency"] == 4
    assert "CurrentInstanceCount" not in shown
    began = time.perf_counter()
    assert hosting.invoke(name) == "cold(x)"
    seconds = time.perf_counter() - began
    assert len(hosts_of(server)) == 1
    assert hosting.invoke(name, "y") == "cold(y)"
    print(f"cold start: {seconds:.3f} s")
    assert seconds < 5


def test_more_requests_than_max_concurrency_are_throttled(hosting, client):
    key = f"{unique('slow')}/model.tar.gz"
    script = SCRIPT.replace(
        "def predict_fn(body, model):",
        "def predict_fn(body, model):\n    import time; time.sleep(1)",
    )
    packed = archive({"name.txt": "slow", "code/inference.py": script})
    hosting.s3.put_object(Bucket=hosting.bucket, Key=key, Body=packed)
    container = {**hosting.container("slow"), "ModelDataUrl": f"s3://{hosting.bucket}/{key}"}
    model = hosting.model("", PrimaryContainer=container)
    name = hosting.endpoint(hosting.config(serverless(model, concurrency=1)))
    once = Config(retries={"total_max_attempts": 1})
    hosting = replace(hosting, runtime=client("sagemaker-runtime", config=once), endpoints=[])
    with Load(hosting, name) as load:
        wait_until(lambda: load.said and load.failures)
    assert set(load.said) == {"slow(x)"}
    assert all("ThrottlingException" in one and "MaxConcurrency" in one for one in load.failures)


def test_provisioned_concurrency_is_up_before_the_first_request(hosting, server):
    name = hosting.endpoint(
        hosting.config(serverless(hosting.model("ready"), ProvisionedConcurrency=1))
    )
    assert len(hosts_of(server)) == 1
    assert hosting.invoke(name) == "ready(x)"
    hosting.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[
            {
                "VariantName": "A",
                "ServerlessUpdateConfig": {"MaxConcurrency": 8, "ProvisionedConcurrency": 2},
            }
        ],
    )
    shown = hosting.in_service(name)["ProductionVariants"][0]["CurrentServerlessConfig"]
    assert (shown["MaxConcurrency"], shown["ProvisionedConcurrency"]) == (8, 2)


def row_of(count: int) -> Row:
    variant = {
        "VariantName": "A",
        "count": count,
        "weight": 1.0,
        "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 4},
    }
    live = {"revision": 1, "config": "c", "variants": [variant]}
    return Row("Endpoint", "e", "arn:e", status="InService", state={"live": live, "target": live})


def test_a_variant_in_use_is_up_and_goes_when_it_is_idle():
    row = row_of(0)
    row.state |= woken(row, ["A"], 1_000.0)
    assert [one["variants"][0]["count"] for one in (row.state["live"], row.state["target"])] == [
        1,
        1,
    ]
    assert woken(row, ["A"], 1_010.0) == {"asked": {"A": 1_010.0}}
    busy = plan_endpoint(row, Seen(1_000.0 + IDLE_SECONDS - 1, {"A-r1-i0": Running(ready=True)}))
    assert not any(isinstance(one, Become) and "live" in one.state for one in busy)
    idle = plan_endpoint(row, Seen(1_000.0 + IDLE_SECONDS, {"A-r1-i0": Running(ready=True)}))
    (become,) = [one for one in idle if isinstance(one, Become)]
    assert become.state["live"]["variants"][0]["count"] == 0
