"""The door learns of an endpoint from a file that control replaces."""

from __future__ import annotations

import asyncio

from clary.dataplane.routes import RoutingTable
from tests.dataplane.conftest import write_routes


def entry(status: str) -> dict:
    return {"us-east-1/iris": {"arn": "arn:iris", "account": "1", "status": status}}


def test_an_endpoint_that_is_in_service_this_instant_is_waited_for(home):
    async def ask() -> str:
        table = RoutingTable(home / "run" / "routes.json")
        write_routes(home, entry("Creating"))
        asked = asyncio.ensure_future(table.awaited("us-east-1", "iris"))
        await asyncio.sleep(0)
        assert not asked.done()
        write_routes(home, entry("InService"))
        return (await asked).status

    assert asyncio.run(ask()) == "InService"


def test_an_endpoint_that_is_not_there_is_not_waited_for_forever(home):
    async def ask() -> object:
        return await RoutingTable(home / "run" / "routes.json").awaited("us-east-1", "iris")

    assert asyncio.run(ask()) is None
