"""What every database must do for the store; a database is proven by subclassing `StoreContract`."""

from __future__ import annotations

import threading
from typing import ClassVar

import pytest

from clary.store.database import Store
from clary.store.rows import Event, Query, Row, RowChanged, RowExists


def model(name: str, **changes: object) -> Row:
    fields: dict[str, object] = {"account": "1", "region": "us-east-1", "document": {"Name": name}}
    return Row("Model", name, f"arn:model/{name}", **{**fields, **changes})  # type: ignore[arg-type]


class StoreContract:
    """Subclasses give a fixture `store`: an empty one whose clock is `self.clock`."""

    now: ClassVar[float] = 1_700_000_000.0

    @classmethod
    def clock(cls) -> float:
        return cls.now

    def test_a_row_is_read_back_as_it_was_written(self, store: Store) -> None:
        row = model(
            "m", status="Creating", tags=[{"Key": "k", "Value": "v"}], state={"n": [1, 2.5]}
        )
        store.rows.insert(row)
        found = store.rows.get("Model", "m", account="1", region="us-east-1")
        assert found is not None
        assert (found.document, found.tags, found.state) == (row.document, row.tags, row.state)
        assert (found.status, found.version, found.created) == ("Creating", 1, self.now)
        by_arn = store.rows.by_arn("arn:model/m")
        assert by_arn is not None and by_arn.id == found.id

    def test_a_name_is_taken_once_per_account_region_and_parent(self, store: Store) -> None:
        store.rows.insert(model("m"))
        with pytest.raises(RowExists):
            store.rows.insert(model("m"))
        store.rows.insert(model("m", region="eu-west-1"))
        store.rows.insert(model("m", parent="d-1"))

    def test_a_row_that_changed_since_it_was_read_is_not_overwritten(self, store: Store) -> None:
        store.rows.insert(model("m"))
        first = store.rows.by_arn("arn:model/m")
        second = store.rows.by_arn("arn:model/m")
        assert first is not None and second is not None
        first.document["by"] = "first"
        store.rows.update(first)
        second.document["by"] = "second"
        with pytest.raises(RowChanged):
            store.rows.update(second)
        with pytest.raises(RowChanged):
            store.rows.delete(second)
        found = store.rows.by_arn("arn:model/m")
        assert found is not None and found.document["by"] == "first"

    def test_of_many_writers_each_write_counts_once(self, store: Store) -> None:
        store.rows.insert(model("m", state={"count": 0}))

        def add() -> None:
            for _ in range(20):
                while True:
                    row = store.rows.by_arn("arn:model/m")
                    assert row is not None
                    row.state["count"] += 1
                    try:
                        store.rows.update(row)
                        break
                    except RowChanged:
                        continue

        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = store.rows.by_arn("arn:model/m")
        assert found is not None and found.state["count"] == 80

    def test_a_failed_write_leaves_neither_row_nor_event(self, store: Store) -> None:
        store.rows.insert(model("m"), Event("transition", {"to": "Creating"}))
        with pytest.raises(RowExists):
            store.rows.insert(model("m"), Event("transition", {"to": "Twice"}))
        assert [one.detail for one in store.rows.events("arn:model/m")] == [{"to": "Creating"}]

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("column", ["name", "created", "modified", "status"])
    def test_pages_hold_every_row_once_in_order(
        self, store: Store, column: str, descending: bool
    ) -> None:
        for number in range(23):
            # Equal sort values across a page's edge are what keyset pages get wrong.
            row = model(f"m-{number:02d}", status="AB"[number % 2], created=self.now + number // 5)
            store.rows.insert(row)
        seen: list[Row] = []
        query = Query("Model", "1", "us-east-1", sort_by=column, descending=descending, limit=4)
        after = None
        while True:
            rows, after = store.rows.page(
                Query(
                    **{**{name: getattr(query, name) for name in query.__slots__}, "after": after}
                )
            )
            seen += rows
            if after is None:
                break
        values = [getattr(row, column) for row in seen]
        assert len({row.name for row in seen}) == len(seen) == 23
        assert values == sorted(values, reverse=descending)

    def test_filters_of_a_page_combine(self, store: Store) -> None:
        for number in range(10):
            row = model(f"Alpha-{number}", status="Ready", created=self.now + number)
            store.rows.insert(row)
            store.rows.insert(model(f"beta-{number}", created=self.now + number))
        query = Query(
            "Model",
            "1",
            "us-east-1",
            name_contains="alpha",
            status="Ready",
            created_after=self.now + 2,
            created_before=self.now + 6,
            matches=lambda row: row.name != "Alpha-4",
        )
        rows, after = store.rows.page(query)
        assert [row.name for row in rows] == ["Alpha-3", "Alpha-5"] and after is None

    def test_a_percent_sign_in_a_filter_is_a_percent_sign(self, store: Store) -> None:
        store.rows.insert(model("plain"))
        assert store.rows.page(Query("Model", "1", "us-east-1", name_contains="%"))[0] == []

    def test_a_leased_row_is_not_due_until_the_lease_runs_out(self, store: Store) -> None:
        store.rows.insert(model("m", due=self.now))
        [row_id] = store.rows.due(self.now, 10)
        leased = store.rows.lease(row_id, "worker", self.now, 60.0)
        assert leased is not None and leased.lease_owner == "worker"
        assert store.rows.lease(row_id, "other", self.now, 60.0) is None
        assert store.rows.due(self.now + 59.0, 10) == []
        assert store.rows.due(self.now + 60.0, 10) == [row_id]

    def test_the_generation_of_a_service_grows_with_its_writes_alone(self, store: Store) -> None:
        before = store.rows.generation("iam")
        store.rows.insert(model("m"))
        assert store.rows.generation("iam") == before
        role = Row("iam:Role", "r", "arn:role/r", account="1")
        store.rows.insert(role)
        after_insert = store.rows.generation("iam")
        found = store.rows.by_arn("arn:role/r")
        assert found is not None
        store.rows.delete(found)
        assert before < after_insert < store.rows.generation("iam")
