"""What an answer shows of a row: the members of an output shape, each from where the row keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from botocore.model import StructureShape

from clary.engine.resource import BoundResource
from clary.model.kinds import CREATED, MODIFIED
from clary.store.rows import Row

Source = Callable[[Row], Any]
_USERS = {"CreatedBy": "created_by", "LastModifiedBy": "modified_by"}


@cache
def _sources(bound: BoundResource, members: tuple[str, ...]) -> tuple[tuple[str, Source], ...]:
    return tuple((member, source_of(bound, member)) for member in members)


def describe(bound: BoundResource, row: Row, verb: str = "Describe") -> dict[str, Any]:
    """A row as the answer of one of its kind's operations; absent members are left out, never null."""
    operation = bound.kind.verbs.get(verb)
    shape = operation.output_shape if operation else None
    if not isinstance(shape, StructureShape):
        return {}
    if bound.resource.wrapped in shape.members:
        inner = shape.members[bound.resource.wrapped]
        if isinstance(inner, StructureShape):
            return {bound.resource.wrapped: project(bound, row, inner.members)}
    return project(bound, row, shape.members)


def summarise(bound: BoundResource, row: Row) -> Any:
    shape = bound.kind.summary_shape
    return project(bound, row, shape.members) if shape is not None else row.name


def project(bound: BoundResource, row: Row, members: Iterable[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for member, source in _sources(bound, tuple(members)):
        value = source(row)
        if value is not None:
            shown[member] = value
    return shown


def source_of(bound: BoundResource, member: str) -> Source:
    """Where the value of a member comes from: declared first, then what every row has, then the document."""
    resource, kind = bound.resource, bound.kind
    if member in resource.secret:
        return lambda row: None
    computed = resource.computed.get(member)
    if computed is not None:
        return computed
    member = resource.renamed.get(member, member)
    if member == kind.arn_member or member == f"{kind.noun}Arn":
        return lambda row: row.arn
    if member == kind.name_member or (member == "Name" and kind.is_named_by_caller):
        return lambda row: row.name
    if kind.status_member and member in (kind.status_member, "Status", f"{kind.noun}Status"):
        return lambda row: row.status or row.document.get(member)
    if member in _USERS:
        return lambda row: _user(row.state.get(_USERS[member]))
    if member in CREATED and member not in kind.input("Create"):
        return lambda row: row.created
    if member in MODIFIED:
        return lambda row: row.modified
    return lambda row: row.document.get(member)


def _user(arn: str | None) -> dict[str, Any] | None:
    """A UserContext: who made or changed a resource."""
    return {"IamIdentity": {"Arn": arn}} if arn else None
