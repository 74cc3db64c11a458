"""List: filters, order and pages, all taken from the members of the operation's input."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from clary.engine.call import Call
from clary.engine.projection import source_of, summarise
from clary.engine.resource import BoundResource
from clary.model.errors import NotImplementedException, ValidationException
from clary.store.rows import Query, Row

PAGE_DEFAULT = 10
ROW_ID_MAX = 2**63 - 1
_SORTS = {
    "name": "name",
    "creationtime": "created",
    "createdtime": "created",
    "createdat": "created",
    "creationdate": "created",
    "lastmodifiedtime": "modified",
    "modifiedtime": "modified",
    "updatedat": "modified",
    "status": "status",
    # All rows of a list have one owner, so what is left of this order is that of their making.
    "accountidowner": "created",
}
_PAGING = ("NextToken", "MaxResults", "SortBy", "SortOrder")


def list_resources(bound: BoundResource, call: Call) -> dict[str, Any]:
    query = query_of(bound, call)
    digest = _digest(call.input)
    token = call.input.get("NextToken")
    if token:
        query = replace(query, after=_opened(token, digest, query.sort_by))
    rows, after = call.parts.store.rows.page(query)
    answer: dict[str, Any] = {bound.kind.items_member: [summarise(bound, row) for row in rows]}
    if after is not None:
        answer["NextToken"] = _sealed(after, digest)
    return answer


def query_of(bound: BoundResource, call: Call) -> Query:
    """The query of a List request; a filter that the kind does not know is an error, never ignored."""
    request = call.input
    column, descending = bound.resource.sorts
    if request.get("SortBy"):
        column = _sort_column(bound, request["SortBy"])
    if request.get("SortOrder"):
        descending = request["SortOrder"].lower() == "descending"
    fields: dict[str, Any] = {}
    checks: list[Callable[[Row], bool]] = []
    for member, value in request.items():
        if member not in _PAGING and value is not None:
            _filter(bound, call, member, value, fields, checks)
    return Query(
        bound.noun,
        call.account,
        call.region,
        sort_by=column,
        descending=descending,
        limit=request.get("MaxResults") or PAGE_DEFAULT,
        matches=(lambda row: all(check(row) for check in checks)) if checks else None,
        **fields,
    )


def _filter(
    bound: BoundResource,
    call: Call,
    member: str,
    value: Any,
    fields: dict[str, Any],
    checks: list[Callable[[Row], bool]],
) -> None:
    kind, special = bound.kind, bound.resource.filters.get(member)
    if special is not None:
        checks.append(lambda row: special(call, row, value))
    elif member in (*kind.parent_members, *(f"{name}Equals" for name in kind.parent_members)):
        # A page of a parent's children seeks by the parent only when the parent is the whole of it.
        if len(kind.parent_members) == 1:
            fields["parent"] = str(value)
        else:
            checks.append(_equals(bound, member.removesuffix("Equals"), value))
    elif member == "NameContains" or member == f"{kind.noun}NameContains":
        fields["name_contains"] = value
    elif member.endswith("NamePrefix") or member == "NamePrefix":
        checks.append(lambda row: row.name.startswith(value))
    elif member.endswith(("After", "Before")):
        fields[_time_field(call.operation, member)] = _seconds(value)
    elif member in ("StatusEquals", f"{kind.noun}StatusEquals") and kind.status_member:
        fields["status"] = value
    elif member.removesuffix("Equals") in _known(bound):
        checks.append(_equals(bound, member.removesuffix("Equals"), value))
    else:
        raise NotImplementedException(
            f"{call.operation} cannot filter by {member} in this version of Clary."
        )


def _equals(bound: BoundResource, member: str, value: Any) -> Callable[[Row], bool]:
    source = source_of(bound, member)
    return lambda row: source(row) == value


def _time_field(operation: str, member: str) -> str:
    edge = "after" if member.endswith("After") else "before"
    if member.startswith(("Creation", "Created")):
        return f"created_{edge}"
    if member.startswith(("LastModified", "Modified")):
        return f"modified_{edge}"
    raise NotImplementedException(
        f"{operation} cannot filter by {member} in this version of Clary."
    )


def _known(bound: BoundResource) -> set[str]:
    return {*bound.kind.output("Describe"), *bound.kind.input("Create"), *bound.resource.computed}


def _sort_column(bound: BoundResource, wanted: str) -> str:
    plain = wanted.replace("_", "").lower()
    column = _SORTS.get(plain) or _SORTS.get(plain.removeprefix(bound.noun.lower()))
    if column is None:
        raise NotImplementedException(
            f"lists of {bound.kind.words}s cannot be sorted by {wanted} yet."
        )
    return column


def _seconds(value: Any) -> float:
    return value.timestamp() if isinstance(value, datetime) else float(value)


def _digest(request: dict[str, Any]) -> str:
    """A token is good only with the filters and the order it was made for."""
    kept = {
        name: value for name, value in request.items() if name not in ("NextToken", "MaxResults")
    }
    text = orjson.dumps(kept, option=orjson.OPT_SORT_KEYS, default=str)
    return hashlib.sha256(text).hexdigest()[:12]


def _sealed(after: tuple[Any, int], digest: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([*after, digest])).decode()


def _opened(token: str, digest: str, column: str) -> tuple[Any, int]:
    """The place where the next page begins; callers may have changed the token, so nothing in it is trusted."""
    try:
        value, row_id, made_for = orjson.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError, binascii.Error) as problem:
        raise ValidationException("Invalid NextToken.") from problem
    if made_for != digest:
        raise ValidationException(
            "Invalid NextToken: it was issued for a request with other filters or another order."
        )
    kinds = str if column in ("name", "status") else int | float
    if not isinstance(value, kinds) or type(row_id) is not int or not 0 <= row_id <= ROW_ID_MAX:
        raise ValidationException("Invalid NextToken.")
    return value, row_id
