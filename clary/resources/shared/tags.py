"""Tags of any resource, by its ARN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clary.engine.call import Call, operation
from clary.engine.verbs import ATTEMPTS_MAX
from clary.model.errors import ConflictException, ResourceLimitExceeded, ValidationException
from clary.store.rows import Row, RowChanged

TAGS_MAX = 50


@operation("AddTags")
def add_tags(call: Call) -> dict[str, Any]:
    """Merge tags into those that are there; a key given again takes the new value."""
    added = {tag["Key"]: tag for tag in call.input["Tags"]}
    for key in added:
        if key.lower().startswith("aws:"):
            raise ValidationException(f"Tag keys that start with aws: are reserved: '{key}'.")

    def merge(row: Row) -> None:
        kept = [tag for tag in row.tags if tag["Key"] not in added]
        row.tags = [*kept, *added.values()]
        if len(row.tags) > TAGS_MAX:
            raise ResourceLimitExceeded(
                f"The tag limit of {TAGS_MAX} tags for {row.arn} would be exceeded."
            )

    return {"Tags": _change(call, merge).tags}


@operation("ListTags")
def list_tags(call: Call) -> dict[str, Any]:
    return {"Tags": _tagged(call).tags}


@operation("DeleteTags")
def delete_tags(call: Call) -> dict[str, Any]:
    def remove(row: Row) -> None:
        row.tags = [tag for tag in row.tags if tag["Key"] not in call.input["TagKeys"]]

    _change(call, remove)
    return {}


def _tagged(call: Call) -> Row:
    row = call.parts.store.rows.by_arn(call.input["ResourceArn"])
    if row is None:
        raise ValidationException(
            f"Could not find a resource with ARN {call.input['ResourceArn']}."
        )
    return row


def _change(call: Call, change: Callable[[Row], None]) -> Row:
    row = _tagged(call)
    for _ in range(ATTEMPTS_MAX):
        change(row)
        try:
            return call.parts.store.rows.update(row, touch=False)
        except RowChanged:
            row = _tagged(call)
    raise ConflictException(f"{row.arn} is being changed by others; try again.")
