"""Which row a request means: its parent and its name, from the members that identify the kind."""

from __future__ import annotations

from typing import Any

from clary.engine.call import Call
from clary.engine.resource import BoundResource
from clary.model.arns import Arn, last_segment, sagemaker_arn
from clary.store.rows import Row


def name_in(bound: BoundResource, request: dict[str, Any]) -> str:
    """The name that a request gives; operations that take a name take its ARN as well."""
    return last_segment(str(request.get(bound.kind.name_member) or ""))


def parent_in(bound: BoundResource, request: dict[str, Any]) -> str:
    members = bound.kind.parent_members
    return "/".join(str(request.get(member) or "") for member in members)


def arn_of(bound: BoundResource, call: Call, parent: str, name: str) -> str:
    path = f"{parent}/{name}" if parent else name
    spelt = bound.resource.arn_name(path)
    return sagemaker_arn(call.region, call.account, bound.kind.arn_segment, spelt)


def find_row(bound: BoundResource, call: Call) -> Row:
    """The row that a request means; raise the kind's own not-found error."""
    parent, name = parent_in(bound, call.input), name_in(bound, call.input)
    given = Arn.parse(str(call.input.get(bound.kind.name_member) or ""))
    if given is not None:
        row = _row_of_arn(bound, call, given)
    else:
        row = call.parts.store.rows.get(
            bound.noun, name, account=call.account, region=call.region, parent=parent
        )
    if row is None:
        missing = arn_of(bound, call, parent, name) if given is None else str(given)
        raise bound.missing_error(name, missing)
    return row


def _row_of_arn(bound: BoundResource, call: Call, arn: Arn) -> Row | None:
    """By the whole ARN, since some kinds lower the case of the name in it."""
    row = call.parts.store.rows.by_arn(str(arn))
    if row is None or (row.kind, row.account, row.region) != (
        bound.noun,
        call.account,
        call.region,
    ):
        return None
    return row
