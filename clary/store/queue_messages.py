"""The messages of SQS queues: kept until deleted or too old, hidden while somebody works on them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import (
    Column,
    Connection,
    Double,
    Index,
    Integer,
    String,
    Table,
    Text,
    cast,
    delete,
    func,
    insert,
    select,
    update,
)

from clary.store.database import Store
from clary.store.tables import RowId, metadata

messages = Table(
    "queue_messages",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("queue", String, nullable=False),  # the queue's ARN
    Column("message_id", String, nullable=False),
    Column("body", Text, nullable=False),
    Column("attributes", Text, nullable=False),  # JSON: the sender's own
    Column("sender", String, nullable=False),
    Column("sent", Double, nullable=False),
    Column("visible", Double, nullable=False),  # from when it may be received
    Column("expires", Double, nullable=False),
    Column("receipt", String, nullable=False),  # of the last receive; empty before
    Column("received", Integer, nullable=False),
    Column("first_received", Double, nullable=False),
)
Index("queue_messages_visible", messages.c.queue, messages.c.visible, messages.c.id)
Index("queue_messages_receipt", messages.c.receipt)


@dataclass(frozen=True, slots=True)
class Message:
    message_id: str
    body: str
    attributes: dict[str, Any]
    sender: str
    sent: float
    visible: float
    expires: float
    receipt: str = ""
    received: int = 0
    first_received: float = 0.0


@dataclass(frozen=True, slots=True)
class Redrive:
    """Where messages go that were received too often."""

    queue: str
    received_max: int


def send(store: Store, queue: str, batch: Sequence[Message]) -> None:
    """Keep messages, all or none."""
    rows = [
        {
            "queue": queue,
            "message_id": one.message_id,
            "body": one.body,
            "attributes": orjson.dumps(one.attributes).decode(),
            "sender": one.sender,
            "sent": one.sent,
            "visible": one.visible,
            "expires": one.expires,
            "receipt": "",
            "received": 0,
            "first_received": 0.0,
        }
        for one in batch
    ]
    if rows:
        store.write(lambda connection: connection.execute(insert(messages), rows))


def receive(
    store: Store,
    queue: str,
    *,
    count: int,
    hidden_seconds: float,
    now: float,
    redrive: Redrive | None = None,
) -> list[Message]:
    """Take up to `count` messages, oldest first; others do not see them for a while."""
    if not _any_visible(store, queue, now):
        return []

    def work(connection: Connection) -> list[Message]:
        connection.execute(
            delete(messages).where(messages.c.queue == queue, messages.c.expires <= now)
        )
        if redrive is not None:
            connection.execute(
                update(messages)
                .where(
                    messages.c.queue == queue,
                    messages.c.visible <= now,
                    messages.c.received >= redrive.received_max,
                )
                .values(queue=redrive.queue, visible=now, receipt="")
            )
        found = connection.execute(
            select(messages)
            .where(messages.c.queue == queue, messages.c.visible <= now)
            .order_by(messages.c.id)
            .limit(count)
            .with_for_update(skip_locked=True)
        ).all()
        return [_taken(connection, row, now, now + hidden_seconds) for row in found]

    return store.write(work)


def _any_visible(store: Store, queue: str, now: float) -> bool:
    """A look that takes no lock, for the many polls that find nothing."""
    statement = select(messages.c.id).where(messages.c.queue == queue, messages.c.visible <= now)
    with store.read() as connection:
        return connection.execute(statement.limit(1)).first() is not None


def _taken(connection: Connection, row: Any, now: float, visible: float) -> Message:
    receipt = uuid.uuid4().hex
    first = row.first_received or now
    values = {
        "receipt": receipt,
        "visible": visible,
        "received": row.received + 1,
        "first_received": first,
    }
    connection.execute(update(messages).where(messages.c.id == row.id).values(**values))
    return Message(
        message_id=row.message_id,
        body=row.body,
        attributes=orjson.loads(row.attributes),
        sender=row.sender,
        sent=row.sent,
        visible=visible,
        expires=row.expires,
        receipt=receipt,
        received=row.received + 1,
        first_received=first,
    )


def delete_received(store: Store, queue: str, receipt: str) -> bool:
    """Delete a message by the receipt of its last receive; False if there is none."""
    statement = delete(messages).where(messages.c.receipt == receipt, messages.c.queue == queue)
    return store.write(lambda connection: connection.execute(statement).rowcount) > 0


def hide(store: Store, queue: str, receipt: str, *, visible: float, now: float) -> bool | None:
    """Change until when a message is hidden; None if there is none, False if it is not hidden now."""
    mine = (messages.c.receipt == receipt, messages.c.queue == queue)

    def work(connection: Connection) -> bool | None:
        found = connection.execute(select(messages.c.visible).where(*mine)).scalar_one_or_none()
        if found is None:
            return None
        if found <= now:
            return False
        connection.execute(update(messages).where(*mine).values(visible=visible))
        return True

    return store.write(work)


def purge(store: Store, queue: str) -> None:
    statement = delete(messages).where(messages.c.queue == queue)
    store.write(lambda connection: connection.execute(statement))


def count(store: Store, queue: str, now: float) -> dict[str, int]:
    """How many wait, are being worked on, and are delayed."""
    columns = messages.c
    received = (columns.queue == queue, columns.expires > now)
    statement = select(
        func.sum(cast(columns.visible <= now, Integer)),
        func.sum(cast(columns.visible > now, Integer)),
        func.sum(cast((columns.visible > now) & (columns.received == 0), Integer)),
    ).where(*received)
    with store.read() as connection:
        waiting, hidden, delayed = (int(one or 0) for one in connection.execute(statement).one())
    return {"waiting": waiting, "working": hidden - delayed, "delayed": delayed}
