"""The store of one installation: its database and the rows and events in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from sqlalchemy import Connection, Table

from clary.store.connections import Database
from clary.store.rows import Rows

T = TypeVar("T")


class Store:
    """Rows, events, and transactions for those who keep tables of their own."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self.rows = Rows(database, clock)

    @staticmethod
    def open(
        url: str,
        synchronous: str = "NORMAL",
        *,
        clock: Callable[[], float] = time.time,
        only: tuple[Table, ...] | None = None,
    ) -> Store:
        """Open and migrate; `url` as `Database.open` takes it. `only` limits which tables a new database gets."""
        return Store(Database.open(url, synchronous=synchronous, only=only), clock)

    def read(self) -> AbstractContextManager[Connection]:
        return self.database.read()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, which should be short."""
        return self.database.write(work)

    def close(self) -> None:
        self.database.close()
