"""One database, SQLite or PostgreSQL by URL: connections, transactions, and statements compiled once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import registry, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.base import Executable

from clary.store import migrations

T = TypeVar("T")

BUSY_SECONDS_MAX = 30.0
# Of the write-ahead log, 16 MiB: rows that are written together share pages, which then go to the file once.
WAL_PAGES = 4000


class Statement:
    """A SQLAlchemy statement rendered once per dialect: compiling it each call costs five times its execution."""

    def __init__(self, statement: Executable, column_keys: list[str] | None = None) -> None:
        self._statement = statement
        self._keys = column_keys
        self._rendered: dict[str, tuple[str, dict[str, Any]]] = {}

    def run(self, driver: Any, dialect: Dialect, parameters: dict[str, Any]) -> Any:
        """Execute on a driver's connection; returns its cursor."""
        found = self._rendered.get(dialect.name)
        if found is None:
            compiled: Any = self._statement.compile(dialect=dialect, column_keys=self._keys)  # type: ignore[attr-defined]
            own = {name: value for name, value in compiled.params.items() if value is not None}
            found = self._rendered[dialect.name] = (str(compiled), own)
        text, own = found
        return driver.execute(text, {**own, **parameters} if own else parameters)


class Database:
    """Threads share it: reads run side by side, writes one after the other (SQLite has one writer anyway).

    `read` and `write` hand out SQLAlchemy connections; `fetch` and `transaction` are the quick path over
    prepared statements and the driver's own connection, for what every call does.
    """

    def __init__(self, engine: Engine, dialect: Dialect, *, single_writer: bool) -> None:
        self.engine = engine
        self.dialect = dialect
        self._writer = threading.RLock() if single_writer else None
        self._local = threading.local()

    @staticmethod
    def open(
        url: str, *, synchronous: str = "NORMAL", only: tuple[Table, ...] | None = None
    ) -> Database:
        """Open and migrate; `url` is `sqlite:///path` or `postgresql://...`. Raise ValueError for any other."""
        if url.startswith("sqlite:"):
            database = _open_sqlite(url, synchronous)
        elif url.startswith(("postgresql:", "postgres:")):
            rest = url.split(":", 1)[1]
            engine = create_engine(f"postgresql+psycopg:{rest}", pool_size=16, max_overflow=32)
            # Looked up by name: importing the dialect costs every start on SQLite 0.1 s.
            dialect = registry.load("postgresql.psycopg")(paramstyle="pyformat")
            database = Database(engine, dialect, single_writer=False)
        else:
            raise ValueError(f"database URL {url!r} is neither sqlite:///path nor postgresql://...")
        migrations.upgrade(database.engine, only)
        return database

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; no I/O of any other sort belongs inside."""
        with self._exclusive(), self.engine.connect() as connection:
            if self._writer is not None:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                if self._writer is not None:
                    connection.exec_driver_sql("COMMIT")
                connection.commit()
            except BaseException:
                # On SQLite this ends the transaction that BEGIN IMMEDIATE opened as well.
                connection.rollback()
                raise
            return result

    def fetch(self, statement: Statement, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """All rows of a SELECT, outside any transaction of the caller."""
        return statement.run(self._driver(), self.dialect, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[Callable[[Statement, dict[str, Any]], Any]]:
        """A short write transaction; yields `run(statement, parameters) -> cursor`."""
        driver = self._driver()

        def run(statement: Statement, parameters: dict[str, Any]) -> Any:
            return statement.run(driver, self.dialect, parameters)

        with self._exclusive():
            driver.execute("BEGIN IMMEDIATE" if self._writer is not None else "BEGIN")
            try:
                yield run
                driver.execute("COMMIT")
            except BaseException:
                # Of a full disk, SQLite has ended the transaction by itself, or has not.
                if self._writer is None or driver.in_transaction:
                    driver.execute("ROLLBACK")
                raise

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if self._writer is None:
            yield
        else:
            with self._writer:
                yield

    def _driver(self) -> Any:
        """This thread's own driver connection, in autocommit mode; it lives as long as the thread."""
        held = getattr(self._local, "held", None)
        if held is None:
            held = self._local.held = self.engine.raw_connection()
            connection = held.driver_connection
            if self._writer is None and connection is not None:
                connection.autocommit = True
        return held.driver_connection

    def close(self) -> None:
        self._local = threading.local()
        self.engine.dispose()


def _open_sqlite(url: str, synchronous: str) -> Database:
    if synchronous not in ("NORMAL", "FULL"):
        raise ValueError(f"CLARY_SQLITE_SYNCHRONOUS={synchronous!r} is neither NORMAL nor FULL")
    Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url, pool_size=16, max_overflow=64, connect_args={"timeout": BUSY_SECONDS_MAX}
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:  # pyright: ignore
        # Autocommit in the driver: transactions begin and end where this module says so.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
        connection.execute("PRAGMA foreign_keys=ON")

    dialect = sqlite.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    return Database(engine, dialect, single_writer=True)
