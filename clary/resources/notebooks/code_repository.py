"""A code repository is a Git repository that notebooks open."""

from __future__ import annotations

from typing import Any

from clary.engine.call import Call
from clary.engine.projection import describe as described
from clary.engine.resource import Resource
from clary.engine.verbs import change_row
from clary.model.errors import ValidationException
from clary.store.rows import Row

code_repository = Resource(
    "CodeRepository",
    sorts=("name", False),
    missing=ValidationException("Cannot find CodeRepository {arn}"),
    taken=ValidationException("Cannot create already existing code repository: {arn}"),
)


@code_repository.operation("UpdateCodeRepository")
def update_code_repository(call: Call) -> dict[str, Any]:
    """Only the secret of its GitConfig can change; the URL and the branch stay."""
    bound = call.parts.bound("CodeRepository")

    def change(row: Row) -> None:
        row.document["GitConfig"] |= call.input.get("GitConfig") or {}
        row.state["modified_by"] = call.principal.arn

    return described(bound, change_row(bound, call, change), "Update")
