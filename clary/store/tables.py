"""The tables of the store; SQLite and PostgreSQL hold the same ones."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

# SQLite numbers rows only in an INTEGER key; PostgreSQL wants the wide type.
RowId = BigInteger().with_variant(Integer, "sqlite")

resources = Table(
    "resources",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("kind", String, nullable=False),
    Column("account", String, nullable=False),
    Column("region", String, nullable=False),
    Column("parent", String, nullable=False),
    Column("name", String, nullable=False),
    Column("arn", String, nullable=False),
    Column("status", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("modified", Double, nullable=False),
    Column("document", Text, nullable=False),  # the API's members
    Column("state", Text, nullable=False),  # what only Clary needs: generation, memory of the plan
    Column("tags", Text, nullable=False),
    Column("due", Double, nullable=True),  # when the loop looks next; null means never
    Column("lease_owner", String, nullable=False),
    Column("lease_until", Double, nullable=False),
)
_scope = (resources.c.kind, resources.c.account, resources.c.region)
Index("resources_identity", *_scope, resources.c.parent, resources.c.name, unique=True)
Index("resources_arn", resources.c.arn)
Index("resources_name", *_scope, resources.c.name, resources.c.id)
Index("resources_created", *_scope, resources.c.created, resources.c.id)
Index("resources_modified", *_scope, resources.c.modified, resources.c.id)
Index("resources_status", *_scope, resources.c.status, resources.c.id)
# Partial on SQLite alone: naming PostgreSQL here would have every start import what speaks to it.
Index("resources_due", resources.c.due, sqlite_where=resources.c.due.is_not(None))

events = Table(
    "events",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("time", Double, nullable=False),
    Column("kind", String, nullable=False),
    Column("arn", String, nullable=False),
    Column("type", String, nullable=False),  # "transition", "audit"
    Column("detail", Text, nullable=False),
)
Index("events_arn", events.c.arn, events.c.id)
Index("events_type", events.c.type, events.c.time)

generations = Table(
    "generations",
    metadata,
    Column("name", String, primary_key=True),  # the service before the colon of a kind: "iam"
    Column("value", BigInteger, nullable=False),
)
