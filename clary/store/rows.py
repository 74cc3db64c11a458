"""Rows: one resource each, of any kind, in one table, with guarded writes and keyset pages."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import bindparam, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from clary.store.connections import Database, Statement
from clary.store.tables import events, generations, resources

PAGE_ROWS_MAX = 10_000
GENERATION_SECONDS = 0.005


class RowExists(Exception):
    """Another row has this kind, account, region, parent and name."""


class RowChanged(Exception):
    """The row was written since it was read, or is gone."""


@dataclass(slots=True)
class Row:
    """One resource. Its identity is (kind, account, region, parent, name); `version` guards every write."""

    kind: str
    name: str
    arn: str
    account: str = ""
    region: str = ""
    parent: str = ""
    status: str = ""
    document: dict[str, Any] = field(default_factory=dict[str, Any])
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    tags: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    due: float | None = None
    lease_owner: str = ""
    lease_until: float = 0.0
    version: int = 0
    created: float = 0.0
    modified: float = 0.0
    id: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a resource, kept for ever beside it."""

    type: str
    detail: dict[str, Any]
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows a page holds, and in which order. Times are epoch seconds; bounds are exclusive."""

    kind: str
    account: str = ""
    region: str = ""
    parent: str | None = None
    name_contains: str = ""
    status: str = ""
    created_after: float | None = None
    created_before: float | None = None
    modified_after: float | None = None
    modified_before: float | None = None
    sort_by: str = "created"  # "name" | "created" | "modified" | "status"
    descending: bool = False
    limit: int = 100
    after: tuple[Any, int] | None = None  # sort value and id of the last row of the page before
    matches: Callable[[Row], bool] | None = None  # what the columns cannot decide


_COLUMNS = [
    "kind", "name", "arn", "account", "region", "parent", "status", "document", "state", "tags",
    "due", "lease_owner", "lease_until", "version", "created", "modified",
]  # fmt: skip
_table = resources.c
_all = select(*(resources.c[name] for name in _COLUMNS), resources.c.id)
_INSERT = Statement(insert(resources), _COLUMNS)
_BY_NAME = Statement(
    _all.where(
        _table.kind == bindparam("kind"),
        _table.account == bindparam("account"),
        _table.region == bindparam("region"),
        _table.parent == bindparam("parent"),
        _table.name == bindparam("name"),
    )
)
_BY_ARN = Statement(_all.where(_table.arn == bindparam("arn")).limit(1))
_UPDATE = Statement(
    update(resources)
    .where(_table.id == bindparam("row_id"), _table.version == bindparam("row_version"))
    .values({name: bindparam(name) for name in _COLUMNS if name not in ("kind", "created")})
)
_DELETE = Statement(
    delete(resources).where(
        _table.id == bindparam("row_id"), _table.version == bindparam("row_version")
    )
)
_EVENT = Statement(insert(events), ["time", "kind", "arn", "type", "detail"])
_GENERATION = Statement(select(generations.c.value).where(generations.c.name == bindparam("name")))
_BUMP = Statement(
    update(generations)
    .where(generations.c.name == bindparam("counter"))
    .values(value=generations.c.value + 1)
)
_FIRST = Statement(insert(generations), ["name", "value"])
_DUE = Statement(
    select(_table.id)
    .where(_table.due.is_not(None), _table.due <= bindparam("now"))
    .where(_table.lease_until <= bindparam("now"))
    .order_by(_table.due)
    .limit(bindparam("count"))
)
_NEXT_DUE = Statement(select(func.min(_table.due)).where(_table.due.is_not(None)))
_BY_ID = Statement(_all.where(_table.id == bindparam("id")))
_LEASE = Statement(
    update(resources)
    .where(_table.id == bindparam("row_id"), _table.lease_until <= bindparam("now"))
    .values(lease_owner=bindparam("owner"), lease_until=bindparam("until"))
)


class Rows:
    """Every method is one short transaction and safe from many threads and processes."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        # Generations by name, each with the moment until which it is believed.
        self._generations: dict[str, tuple[int, float]] = {}

    def insert(self, row: Row, *happened: Event) -> Row:
        """Add a row; raise RowExists if its identity is taken."""
        row.version = 1
        row.created = row.created or self._clock()
        row.modified = row.modified or row.created
        try:
            with self._database.transaction() as run:
                # psycopg has no lastrowid: the identity is read back where it matters.
                row.id = getattr(run(_INSERT, _values(row)), "lastrowid", 0) or 0
                self._record(run, row, happened)
            self._generations.pop(row.kind.partition(":")[0], None)
        except (sqlite3.IntegrityError, IntegrityError) as problem:
            raise RowExists(f"{row.kind} {row.name}") from problem
        except Exception as problem:
            if type(problem).__name__ == "UniqueViolation":  # psycopg's, imported only where used
                raise RowExists(f"{row.kind} {row.name}") from problem
            raise
        return row

    def get(
        self, kind: str, name: str, *, account: str = "", region: str = "", parent: str = ""
    ) -> Row | None:
        identity = {"kind": kind, "account": account, "region": region, "parent": parent}
        found = self._database.fetch(_BY_NAME, {**identity, "name": name})
        return _row(found[0]) if found else None

    def by_arn(self, arn: str) -> Row | None:
        found = self._database.fetch(_BY_ARN, {"arn": arn})
        return _row(found[0]) if found else None

    def by_id(self, row_id: int) -> Row | None:
        found = self._database.fetch(_BY_ID, {"id": row_id})
        return _row(found[0]) if found else None

    def update(self, row: Row, *happened: Event, touch: bool = True) -> Row:
        """Write back a row that was read; raise RowChanged if somebody was quicker."""
        before = row.version
        if touch:
            row.modified = max(self._clock(), row.modified)
        row.version = before + 1
        with self._database.transaction() as run:
            values = {**_values(row), "row_id": row.id, "row_version": before}
            if run(_UPDATE, values).rowcount != 1:
                row.version = before
                raise RowChanged(f"{row.kind} {row.name}")
            self._record(run, row, happened)
        self._generations.pop(row.kind.partition(":")[0], None)
        return row

    def delete(self, row: Row, *happened: Event) -> None:
        """Remove a row that was read; raise RowChanged if it changed since."""
        with self._database.transaction() as run:
            if run(_DELETE, {"row_id": row.id, "row_version": row.version}).rowcount != 1:
                raise RowChanged(f"{row.kind} {row.name}")
            self._record(run, row, happened)
        self._generations.pop(row.kind.partition(":")[0], None)

    def every(
        self, kind: str, *, account: str = "", region: str = "", parent: str | None = None
    ) -> list[Row]:
        """All rows of a small kind by name, at most PAGE_ROWS_MAX."""
        query = Query(kind, account, region, parent, sort_by="name", limit=PAGE_ROWS_MAX)
        return self.page(query)[0]

    def page(self, query: Query) -> tuple[list[Row], tuple[Any, int] | None]:
        """One page and the place where the next begins (None at the end): the cost does not grow with the table."""
        rows: list[Row] = []
        after = query.after
        while True:
            wanted = query.limit - len(rows) + 1
            batch = self._batch(query, after, wanted if query.matches is None else max(wanted, 200))
            for row in batch:
                if query.matches is None or query.matches(row):
                    if len(rows) == query.limit:
                        last = rows[-1]
                        return rows, (getattr(last, query.sort_by), last.id)
                    rows.append(row)
            if query.matches is None or not batch:
                return rows, None
            after = (getattr(batch[-1], query.sort_by), batch[-1].id)

    def regions(self, kind: str) -> list[str]:
        """The regions that hold rows of a kind."""
        statement = select(_table.region).where(_table.kind == kind).distinct()
        with self._database.read() as connection:
            return sorted(found[0] for found in connection.execute(statement))

    def due(self, now: float, count: int) -> list[int]:
        """Ids of rows that the loop should look at, the longest waiting first."""
        return [found[0] for found in self._database.fetch(_DUE, {"now": now, "count": count})]

    def next_due(self) -> float | None:
        return self._database.fetch(_NEXT_DUE, {})[0][0]

    def lease(self, row_id: int, owner: str, now: float, seconds: float) -> Row | None:
        """Take a row for a while; None if another holds it."""
        with self._database.transaction() as run:
            values = {"row_id": row_id, "now": now, "owner": owner, "until": now + seconds}
            if run(_LEASE, values).rowcount != 1:
                return None
        return self.by_id(row_id)

    def generation(self, name: str) -> int:
        """A number that grows with every write to the kinds of a service, such as "iam": caches compare it.

        A write of this process shows at once, one of another process after GENERATION_SECONDS.
        """
        now = time.monotonic()
        value, until = self._generations.get(name, (0, 0.0))
        if now < until:
            return value
        found = self._database.fetch(_GENERATION, {"name": name})
        value = found[0][0] if found else 0
        self._generations[name] = (value, now + GENERATION_SECONDS)
        return value

    def record(self, kind: str, arn: str, happened: Event) -> None:
        """Append an event that changes no row."""
        with self._database.transaction() as run:
            run(_EVENT, _event(kind, arn, happened, self._clock()))

    def events(self, arn: str, limit: int = 1_000) -> list[Event]:
        """What happened to a resource, oldest first."""
        statement = select(events.c.type, events.c.detail, events.c.time)
        statement = statement.where(events.c.arn == arn).order_by(events.c.id).limit(limit)
        with self._database.read() as connection:
            found = connection.execute(statement).all()
        return [Event(type, orjson.loads(detail), when) for type, detail, when in found]

    def _batch(self, query: Query, after: tuple[Any, int] | None, limit: int) -> list[Row]:
        statement = _page_statement(query, after).limit(limit)
        with self._database.read() as connection:
            return [_row(tuple(found)) for found in connection.execute(statement)]

    def _record(self, run: Any, row: Row, happened: tuple[Event, ...]) -> None:
        for one in happened:
            run(_EVENT, _event(row.kind, row.arn, one, self._clock()))
        service, colon, _ = row.kind.partition(":")
        if colon and run(_BUMP, {"counter": service}).rowcount != 1:
            run(_FIRST, {"name": service, "value": 1})


def _page_statement(query: Query, after: tuple[Any, int] | None) -> Any:
    statement = _all.where(
        _table.kind == query.kind, _table.account == query.account, _table.region == query.region
    )
    if query.parent is not None:
        statement = statement.where(_table.parent == query.parent)
    if query.name_contains:
        # NameContains ignores case, as LIKE does in SQLite and as SageMaker's console search does.
        statement = statement.where(_table.name.icontains(query.name_contains, autoescape=True))
    if query.status:
        statement = statement.where(_table.status == query.status)
    bounds = (
        (query.created_after, _table.created, True),
        (query.created_before, _table.created, False),
        (query.modified_after, _table.modified, True),
        (query.modified_before, _table.modified, False),
    )
    for bound, column, above in bounds:
        if bound is not None:
            statement = statement.where(column > bound if above else column < bound)
    column = _table[query.sort_by]
    if after is not None:
        value, row_id = after
        further = column < value if query.descending else column > value
        tied = _table.id < row_id if query.descending else _table.id > row_id
        statement = statement.where(or_(further, (column == value) & tied))
        # The plain bound lets the index seek; the disjunction above alone would scan.
        statement = statement.where(column <= value if query.descending else column >= value)
    if query.descending:
        return statement.order_by(column.desc(), _table.id.desc())
    return statement.order_by(column, _table.id)


def _values(row: Row) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "name": row.name,
        "arn": row.arn,
        "account": row.account,
        "region": row.region,
        "parent": row.parent,
        "status": row.status,
        "document": orjson.dumps(row.document).decode(),
        "state": orjson.dumps(row.state).decode(),
        "tags": orjson.dumps(row.tags).decode(),
        "due": row.due,
        "lease_owner": row.lease_owner,
        "lease_until": row.lease_until,
        "version": row.version,
        "created": row.created,
        "modified": row.modified,
    }


def _row(found: tuple[Any, ...]) -> Row:
    values = dict(zip((*_COLUMNS, "id"), found, strict=True))
    for name in ("document", "state", "tags"):
        values[name] = orjson.loads(values[name])
    return Row(**values)


def _event(kind: str, arn: str, happened: Event, now: float) -> dict[str, Any]:
    detail = orjson.dumps(happened.detail).decode()
    when = happened.time or now
    return {"time": when, "kind": kind, "arn": arn, "type": happened.type, "detail": detail}
