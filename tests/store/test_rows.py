"""Rows on every database that Clary supports."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from clary.store.database import Store
from tests.store import postgresql
from tests.store.store_contract import StoreContract, model


class TestSqlite(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = Store.open(f"sqlite:///{tmp_path}/clary.db", clock=self.clock)
        yield store
        store.close()

    def test_a_second_process_reads_what_the_first_wrote(
        self, store: Store, tmp_path: Path
    ) -> None:
        store.rows.insert(model("m"))
        second = Store.open(f"sqlite:///{tmp_path}/clary.db", clock=self.clock)
        assert second.rows.by_arn("arn:model/m") is not None
        second.close()

    def test_a_database_of_a_newer_release_is_refused_with_the_remedy(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/newer.db"
        store = Store.open(url)
        store.write(
            lambda connection: connection.execute(
                text("UPDATE alembic_version SET version_num = '9999'")
            )
        )
        store.close()
        with pytest.raises(RuntimeError, match="written by a newer Clary"):
            Store.open(url)


@pytest.fixture(scope="module")
def postgresql_url() -> Iterator[str]:
    programs = postgresql.binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    # Straight below /tmp: the server runs as another user, and its socket's path must be short.
    kept = tempfile.TemporaryDirectory(prefix="clary-pg-", ignore_cleanup_errors=True)
    with kept as folder, postgresql.serving(Path(folder), programs) as url:
        yield url


class TestPostgresql(StoreContract):
    @pytest.fixture
    def store(self, postgresql_url: str) -> Iterator[Store]:
        store = Store.open(postgresql_url, clock=self.clock)
        tables = "resources, events, generations"
        store.write(
            lambda connection: connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
        )
        yield store
        store.close()


def test_an_unknown_database_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mysql://x"):
        Store.open("mysql://x")
