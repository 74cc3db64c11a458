"""Which endpoint a monitoring job definition watches."""

from __future__ import annotations

from collections.abc import Callable

from clary.store.rows import Row


def endpoint_of(input_member: str) -> Callable[[Row], str | None]:
    """The endpoint's name in a definition's input; None for a definition that watches batch transform."""

    def find(row: Row) -> str | None:
        return row.document[input_member].get("EndpointInput", {}).get("EndpointName")

    return find
