"""The routes of a change are there before anybody can read of the change."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clary.resources.inference.endpoint_routes import publish_routes, publishing_routes
from clary.store.database import Store
from clary.store.rows import Row, RowChanged

ARN = "arn:aws:sagemaker:us-east-1:1:endpoint/iris"


@pytest.fixture
def parts(tmp_path: Path):
    store = Store.open(f"sqlite:///{tmp_path}/clary.db")
    settings = SimpleNamespace(account="1", run=tmp_path / "run", home=tmp_path)
    yield SimpleNamespace(store=store, settings=settings)
    store.close()


def shown(parts: Any) -> str | None:
    routes = json.loads((parts.settings.run / "routes.json").read_bytes())["endpoints"]
    return routes.get("us-east-1/iris", {}).get("status")


def stored(parts: Any) -> str | None:
    row = parts.store.rows.by_arn(ARN)
    return row and row.status


@pytest.fixture
def row(parts) -> Row:
    made = Row("Endpoint", "iris", ARN, "1", "us-east-1", status="Updating")
    parts.store.rows.insert(made)
    publish_routes(parts)
    return made


def test_a_status_is_told_before_it_is_stored(parts, row):
    row.status = "InService"
    with publishing_routes(parts, {row.id: row}):
        assert (shown(parts), stored(parts)) == ("InService", "Updating")
        parts.store.rows.update(row)
    assert (shown(parts), stored(parts)) == ("InService", "InService")


def test_what_could_not_be_stored_is_not_told_on(parts, row):
    row.status = "InService"
    with pytest.raises(RowChanged), publishing_routes(parts, {row.id: row}):
        raise RowChanged
    assert (shown(parts), stored(parts)) == ("Updating", "Updating")


def test_one_that_goes_is_gone_from_the_routes_first(parts, row):
    with publishing_routes(parts, {row.id: None}):
        assert (shown(parts), stored(parts)) == (None, "Updating")
        parts.store.rows.delete(row)
    assert (shown(parts), stored(parts)) == (None, None)
