"""Bringing a database to this version's tables at start-up, after a backup."""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlalchemy import Engine, Table, inspect, text

from clary.store.tables import metadata

HEAD = "0001"


def upgrade(engine: Engine, only: tuple[Table, ...] | None = None) -> None:
    """Create the tables in an empty database; migrate an older one by Alembic, its file copied first."""
    found = _revision(engine)
    if found == HEAD:
        return
    if found is None:
        with engine.begin() as connection:
            metadata.create_all(connection, tables=list(only) if only else None)
            connection.execute(
                text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
            )
            connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
        return
    _back_up(engine, found)
    _run_alembic(engine, found)


def _revision(engine: Engine) -> str | None:
    if not inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _back_up(engine: Engine, revision: str) -> None:
    if engine.dialect.name == "sqlite" and engine.url.database:
        source = Path(engine.url.database)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy2(source, source.with_suffix(f".before-{HEAD}-from-{revision}.db"))


def _run_alembic(engine: Engine, found: str) -> None:
    # Alembic takes 0.2 s to import, and only a start that changes the tables needs it.
    from alembic import command
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent))
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        try:
            command.upgrade(configuration, "head")
        except Exception as problem:
            raise RuntimeError(
                f"the database is at revision {found!r} and could not be brought to {HEAD!r}; "
                "it may have been written by a newer Clary: install that one, or restore the backup"
            ) from problem
