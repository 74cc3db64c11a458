"""Pipelines with a multi-model container at the door: what one container answers, and models that were lost."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.config import Config

from clary.store.objects import Objects
from tests.dataplane.test_multi_model import ROLE, Everything, ManyModels, Shop

FIRST, LAST = "models first", "models last"


@pytest.fixture(params=[FIRST, LAST])
def shop(request, home, control, start_door, serve_unix, set_routes):
    """A container of many models before or behind one that writes in capitals."""
    store = Objects(home / "objects", region="us-east-1", durable=False)
    store.create_bucket("shop")
    (home / "models").mkdir()
    server = ManyModels()
    serve_unix(home / "many.sock", server)
    serve_unix(home / "plain.sock", _capitals)
    many = {
        "name": "many",
        "socket": str(home / "many.sock"),
        "models": str(home / "models"),
        "multi_model": {"prefix": "s3://shop/models/", "cached": True},
    }
    plain = {"name": "plain", "socket": str(home / "plain.sock")}
    containers = [many, plain] if request.param == FIRST else [plain, many]
    instance = {"id": "i-0", "socket": containers[0]["socket"], "containers": containers}
    variant = {"name": "A", "weight": 1.0, "instances": [instance], "execution": "Serial"}
    route = {
        "arn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/many",
        "account": "123456789012", "status": "InService", "role": ROLE, "variants": [variant],
    }  # fmt: skip
    set_routes({"us-east-1/many": route})
    with start_door(store=store, roles=Everything()) as door:
        client = boto3.client(
            "sagemaker-runtime", region_name="us-east-1", endpoint_url=door.url,
            aws_access_key_id="AKID", aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip
        made = Shop(home, store, server, client)
        for name in "abc":
            made.put(f"{name}.tar.gz", name)
        yield request.param, made
        client.close()


def _capitals(seen: Any) -> tuple[int, dict[str, str], bytes]:
    # A request that is to be answered "no such row" must reach the models as it is.
    return 200, {}, seen.body if seen.body == b"missing" else seen.body.upper()


def test_a_model_is_loaded_on_demand_and_again_where_it_was_lost(shop):
    order, made = shop
    says = "A" if order == FIRST else "a"
    assert [made.invoke("a.tar.gz") for _ in range(2)] == [says, says]
    assert made.server.asked == ["POST models", "POST invoke", "POST invoke"]
    made.server.loaded.clear()
    assert made.invoke("a.tar.gz") == says
    for name in "bc":  # there is room for two
        assert made.invoke(f"{name}.tar.gz").lower() == name
    assert made.invoke("a.tar.gz") == says


def test_what_goes_wrong_with_a_model_ends_the_chain(shop):
    _, made = shop
    assert made.invoke("a.tar.gz").lower() == "a"
    code, message = made.refused("a.tar.gz", body=b"missing")
    assert code == "ModelError" and "no such row" in message and "from many" in message
    code, message = made.refused("none.tar.gz")
    assert code == "ValidationError" and "Failed to download model data" in message
    code, message = made.refused()
    assert code == "ValidationError" and "TargetModel" in message
    made.server.room = 0
    made.server.loaded.clear()
    code, _ = made.refused("b.tar.gz")
    assert code == "ModelError"
    made.server.room = 2
    assert made.invoke("b.tar.gz").lower() == "b"
