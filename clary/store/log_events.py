"""Log events: streams and their lines, appended in batches and read by position.

A stream is one row that knows its newest event and hands out sequence numbers. An event's position is
(time, sequence): unique within its stream, and stable for events of the same millisecond. The events
table is its own index by position, so that a page costs the same at any depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    LargeBinary,
    String,
    Table,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from clary.store.connections import Statement
from clary.store.database import Store
from clary.store.tables import RowId, metadata

EVENT_OVERHEAD_BYTES = 26  # CloudWatch Logs counts each event as its UTF-8 bytes and 26 more
FIRST_ROWS = 100  # of a read; later ones are sized by what the first found
READ_ROWS_MAX = 5_000
TIME_MAX = 10**16 - 1  # in milliseconds; also beyond any sequence number
STREAMS_ROWS = 1_000

# Names are in the order of their bytes, as AWS lists them; PostgreSQL's default order depends on the machine.
Bytewise = String().with_variant(String(collation="C"), "postgresql")

streams = Table(
    "log_streams",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("log_group", Bytewise, nullable=False),  # as the caller names it; "" once deleted
    Column("name", Bytewise, nullable=False),
    Column("created", BigInteger, nullable=False),  # this and all times: epoch milliseconds
    Column("first_time", BigInteger, nullable=False),  # TIME_MAX without events
    Column("last_time", BigInteger, nullable=False),  # 0 before the first event
    Column("last_ingestion", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),  # of the newest event
)
Index("log_streams_name", streams.c.log_group, streams.c.name, unique=True)
Index("log_streams_newest", streams.c.log_group, streams.c.last_time, streams.c.id)

events = Table(
    "log_events",
    metadata,
    Column("stream", BigInteger, primary_key=True, autoincrement=False),
    Column("time", BigInteger, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("ingestion", BigInteger, nullable=False),
    Column("message", Text, nullable=False),
    sqlite_with_rowid=False,
)


class StreamExists(Exception):
    """The group has a stream of this name."""


class StreamGone(Exception):
    """The stream was deleted since it was found."""


@dataclass(frozen=True, slots=True)
class Stream:
    id: int
    log_group: str
    name: str
    created: int
    first_time: int
    last_time: int
    last_ingestion: int
    bytes: int
    sequence: int

    @property
    def empty(self) -> bool:
        return self.first_time == TIME_MAX


@dataclass(frozen=True, slots=True)
class Event:
    time: int
    sequence: int
    ingestion: int
    message: str

    @property
    def position(self) -> tuple[int, int]:
        return self.time, self.sequence

    @property
    def size(self) -> int:
        return event_bytes(self.message)


@dataclass(frozen=True, slots=True)
class Window:
    """Which events a read may see: times in [start, end), positions strictly between `after` and `before`."""

    start: int = 0
    end: int = TIME_MAX
    after: tuple[int, int] | None = None
    before: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class StreamQuery:
    """A page of streams by name, or by the time of their newest event (0 without one)."""

    log_group: str
    prefix: str = ""
    by_time: bool = False
    descending: bool = False
    limit: int = 50
    after: tuple[Any, int] | None = None  # sort value and id of the last stream before


_columns = streams.c
_BY_NAME = Statement(
    select(streams).where(
        _columns.log_group == bindparam("log_group"), _columns.name == bindparam("name")
    )
)
_APPENDED = (
    update(streams)
    .where(_columns.id == bindparam("row_id"))
    .values(
        sequence=_columns.sequence + bindparam("count", type_=BigInteger),
        bytes=_columns.bytes + bindparam("size", type_=BigInteger),
        first_time=case(
            (_columns.first_time <= bindparam("first"), _columns.first_time),
            else_=bindparam("first", type_=BigInteger),
        ),
        last_time=case(
            (_columns.last_time >= bindparam("last"), _columns.last_time),
            else_=bindparam("last", type_=BigInteger),
        ),
        last_ingestion=bindparam("now", type_=BigInteger),
    )
    .returning(_columns.sequence)
)
_INSERT = "INSERT INTO log_events (stream, time, sequence, ingestion, message) VALUES ({})"
_position = (
    or_(
        events.c.time > bindparam("after_time"),
        and_(
            events.c.time == bindparam("after_time"),
            events.c.sequence > bindparam("after_sequence"),
        ),
    ),
    or_(
        events.c.time < bindparam("before_time"),
        and_(
            events.c.time == bindparam("before_time"),
            events.c.sequence < bindparam("before_sequence"),
        ),
    ),
)
_page = (
    select(events.c.time, events.c.sequence, events.c.ingestion, events.c.message)
    # The plain bounds let the index seek; the disjunctions alone would scan.
    .where(
        events.c.stream == bindparam("stream"),
        events.c.time >= bindparam("start"),
        events.c.time <= bindparam("last"),
        *_position,
    )
    .limit(bindparam("count", type_=BigInteger))
)
_FORWARD = Statement(_page.order_by(events.c.time, events.c.sequence))
_BACKWARD = Statement(_page.order_by(events.c.time.desc(), events.c.sequence.desc()))


def event_bytes(message: str) -> int:
    """What an event counts for in the limits of CloudWatch Logs."""
    # Most log lines are ASCII, whose length needs no encoding.
    own = len(message) if message.isascii() else len(message.encode())
    return own + EVENT_OVERHEAD_BYTES


def create_stream(telemetry: Store, log_group: str, name: str, *, now: int) -> None:
    """Add a stream; raise StreamExists."""
    values = {
        "log_group": log_group,
        "name": name,
        "created": now,
        "first_time": TIME_MAX,
        "last_time": 0,
        "last_ingestion": 0,
        "bytes": 0,
        "sequence": 0,
    }

    def work(connection: Connection) -> bool:
        try:
            # The savepoint leaves the transaction whole where the name is taken.
            with connection.begin_nested():
                connection.execute(insert(streams).values(**values))
        except IntegrityError:
            return False
        return True

    if not telemetry.write(work):
        raise StreamExists(name)


def find_stream(telemetry: Store, log_group: str, name: str) -> Stream | None:
    found = telemetry.database.fetch(_BY_NAME, {"log_group": log_group, "name": name})
    return Stream(*found[0]) if found else None


def put(telemetry: Store, stream: Stream, lines: Sequence[tuple[int, str]], *, now: int) -> int:
    """Append (time, message) pairs that are sorted by time; return the stream's newest sequence number.

    Raise StreamGone.
    """
    if not lines:
        return stream.sequence
    size = sum(event_bytes(text) for _, text in lines)

    def work(connection: Connection) -> int | None:
        values = {"first": lines[0][0], "last": lines[-1][0], "count": len(lines), "size": size}
        updated = connection.execute(_APPENDED, {**values, "row_id": stream.id, "now": now})
        sequence = updated.scalar_one_or_none()
        if sequence is None:
            return None
        first = sequence - len(lines) + 1
        rows = [
            (stream.id, when, first + index, now, text) for index, (when, text) in enumerate(lines)
        ]
        # Plain tuples, straight to the driver: dictionaries per row would double the time.
        mark = "?" if connection.dialect.name == "sqlite" else "%s"
        connection.exec_driver_sql(_INSERT.format(", ".join([mark] * 5)), rows)
        return sequence

    newest = telemetry.write(work)
    if newest is None:
        raise StreamGone(stream.name)
    return newest


def read_forward(telemetry: Store, stream: int, window: Window) -> Iterator[Event]:
    """Events in order of position, read in bounded pieces as they are asked for."""
    return _read(telemetry, stream, window, descending=False)


def read_backward(telemetry: Store, stream: int, window: Window) -> Iterator[Event]:
    """Events from the newest to the oldest."""
    return _read(telemetry, stream, window, descending=True)


def list_streams(
    telemetry: Store, query: StreamQuery
) -> tuple[list[Stream], tuple[Any, int] | None]:
    """One page of streams, and the place where the next begins (None at the end)."""
    value = _columns.last_time if query.by_time else _columns.name
    statement = select(streams).where(_columns.log_group == query.log_group)
    if query.prefix:
        statement = statement.where(*_begins_with(query.prefix))
    if query.after is not None:
        last, row_id = query.after
        further = value < last if query.descending else value > last
        tied = _columns.id < row_id if query.descending else _columns.id > row_id
        statement = statement.where(or_(further, and_(value == last, tied)))
        # The plain bound lets the index seek; the disjunction alone would scan.
        statement = statement.where(value <= last if query.descending else value >= last)
    order = (value.desc(), _columns.id.desc()) if query.descending else (value, _columns.id)
    with telemetry.read() as connection:
        found = connection.execute(statement.order_by(*order).limit(query.limit + 1)).all()
    page = [Stream(*row) for row in found[: query.limit]]
    if len(found) <= query.limit:
        return page, None
    newest = page[-1]
    return page, (newest.last_time if query.by_time else newest.name, newest.id)


def streams_within(
    telemetry: Store,
    log_group: str,
    window: Window,
    *,
    prefix: str = "",
    names: Sequence[str] = (),
) -> Iterator[Stream]:
    """Streams that may hold events of a window's times, by their first event, read in bounded pieces."""
    statement = select(streams).where(
        _columns.log_group == log_group,
        _columns.last_time >= window.start,
        _columns.first_time < window.end,
    )
    if prefix:
        statement = statement.where(*_begins_with(prefix))
    if names:
        statement = statement.where(_columns.name.in_(names))
    statement = statement.order_by(_columns.first_time, _columns.id).limit(STREAMS_ROWS)
    place: tuple[int, int] | None = None
    while True:
        with telemetry.read() as connection:
            further = statement if place is None else statement.where(_beyond(*place))
            found = connection.execute(further).all()
        yield from (Stream(*row) for row in found)
        if len(found) < STREAMS_ROWS:
            return
        place = (found[-1].first_time, found[-1].id)


def group_bytes(telemetry: Store, log_group: str) -> int:
    statement = select(func.coalesce(func.sum(_columns.bytes), 0))
    with telemetry.read() as connection:
        return int(
            connection.execute(statement.where(_columns.log_group == log_group)).scalar_one()
        )


def delete_streams(telemetry: Store, log_group: str, name: str | None = None) -> int:
    """Take streams out of sight at once; `purge` removes their events afterwards."""
    statement = update(streams).where(_columns.log_group == log_group)
    if name is not None:
        statement = statement.where(_columns.name == name)
    gone = statement.values(log_group="", name=cast(_columns.id, String))
    return telemetry.write(lambda connection: connection.execute(gone).rowcount)


def purge_deleted(telemetry: Store, *, rows_max: int = 50_000) -> int:
    """Remove the events of deleted streams, at most `rows_max`; return how many went."""
    removed = 0
    while removed < rows_max:
        with telemetry.read() as connection:
            found = connection.execute(select(_columns.id).where(_columns.log_group == "").limit(1))
            stream = found.scalar()
        if stream is None:
            break
        count = _remove(telemetry, stream, TIME_MAX, min(READ_ROWS_MAX, rows_max - removed))
        removed += count
        if count == 0:
            telemetry.write(
                lambda connection, stream=stream: connection.execute(
                    delete(streams).where(_columns.id == stream)
                )
            )
    return removed


def purge_older(telemetry: Store, log_group: str, before: int, *, rows_max: int = 50_000) -> int:
    """Remove a group's events from before a time, at most `rows_max`; return how many went."""
    removed = 0
    for stream in streams_within(telemetry, log_group, Window(end=before)):
        while removed < rows_max:
            count = _remove(telemetry, stream.id, before, min(READ_ROWS_MAX, rows_max - removed))
            if count == 0:
                break
            removed += count
        if removed >= rows_max:
            break
        _move_first(telemetry, stream.id)
    return removed


def _read(telemetry: Store, stream: int, window: Window, *, descending: bool) -> Iterator[Event]:
    statement = _BACKWARD if descending else _FORWARD
    after, before = window.after or (-1, -1), window.before or (TIME_MAX, TIME_MAX)
    count = FIRST_ROWS
    while True:
        values = {
            "stream": stream,
            "start": max(window.start, after[0]),
            "last": min(window.end - 1, before[0]),
            "after_time": after[0],
            "after_sequence": after[1],
            "before_time": before[0],
            "before_sequence": before[1],
            "count": count,
        }
        found = telemetry.database.fetch(statement, values)
        for row in found:
            yield Event(*row)
        if len(found) < count:
            return
        if descending:
            before = (found[-1][0], found[-1][1])
        else:
            after = (found[-1][0], found[-1][1])
        # A page is at most 1 MiB of messages: long ones are read few at a time.
        mean = sum(len(row[3]) for row in found) // len(found) + EVENT_OVERHEAD_BYTES
        count = max(FIRST_ROWS, min(READ_ROWS_MAX, 1024 * 1024 // mean))


def _begins_with(prefix: str) -> tuple[Any, ...]:
    """A range, which an index can seek; LIKE ignores case in SQLite."""
    exact = func.substr(_columns.name, 1, len(prefix)) == prefix
    return _columns.name >= prefix, _columns.name < f"{prefix}\U0010ffff", exact


def _beyond(first_time: int, row_id: int) -> Any:
    return or_(
        _columns.first_time > first_time,
        and_(_columns.first_time == first_time, _columns.id > row_id),
    )


def _remove(telemetry: Store, stream: int, before: int, count: int) -> int:
    """Delete the oldest events of a stream from before a time."""

    def work(connection: Connection) -> int:
        oldest = (
            select(events.c.time, events.c.sequence)
            .where(events.c.stream == stream, events.c.time < before)
            .order_by(events.c.time, events.c.sequence)
            .limit(count)
        )
        found = connection.execute(oldest).all()
        if not found:
            return 0
        last_time, last_sequence = found[-1]
        upto = or_(
            events.c.time < last_time,
            and_(events.c.time == last_time, events.c.sequence <= last_sequence),
        )
        size = func.sum(_message_bytes(connection) + EVENT_OVERHEAD_BYTES)
        mine = and_(events.c.stream == stream, events.c.time <= last_time, upto)
        gone = int(connection.execute(select(size).where(mine)).scalar() or 0)
        connection.execute(delete(events).where(mine))
        shrunk = update(streams).where(_columns.id == stream)
        connection.execute(shrunk.values(bytes=_columns.bytes - gone))
        return len(found)

    return telemetry.write(work)


def _message_bytes(connection: Connection) -> Any:
    if connection.dialect.name == "sqlite":
        return func.length(cast(events.c.message, LargeBinary))
    return func.octet_length(events.c.message)


def _move_first(telemetry: Store, stream: int) -> None:
    """Let a stream begin where its remaining events do."""
    first = select(func.min(events.c.time)).where(events.c.stream == stream).scalar_subquery()
    moved = update(streams).where(_columns.id == stream)
    moved = moved.values(first_time=func.coalesce(first, TIME_MAX))
    telemetry.write(lambda connection: connection.execute(moved))
