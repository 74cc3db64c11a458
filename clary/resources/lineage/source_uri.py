"""Where a lineage entity comes from, which its lists filter by."""

from __future__ import annotations

from clary.engine.call import Call
from clary.store.rows import Row


def source_uri(row: Row) -> str | None:
    return (row.document.get("Source") or {}).get("SourceUri")


def comes_from(call: Call, row: Row, uri: str) -> bool:
    return source_uri(row) == uri
