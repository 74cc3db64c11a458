"""An association leads from one lineage entity to another: an edge of the lineage graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from clary.engine.call import Call, operation
from clary.model.errors import ResourceNotFound, ValidationException
from clary.store.rows import PAGE_ROWS_MAX, Query, Row, RowChanged, RowExists

KIND = "Association"
PAGE_DEFAULT = 10
# A row's name begins with its source.
_COLUMNS = {"CreationTime": "created", "SourceArn": "name"}


def _name(call: Call) -> str:
    return f"{call.input['SourceArn']} {call.input['DestinationArn']}"


@operation("AddAssociation")
def add_association(call: Call) -> dict[str, Any]:
    ends = {member: call.input[member] for member in ("SourceArn", "DestinationArn")}
    for arn in ends.values():
        if call.parts.store.rows.by_arn(arn) is None:
            raise ResourceNotFound(f"The lineage entity '{arn}' does not exist.")
    row = Row(
        KIND,
        _name(call),
        arn="",
        account=call.account,
        region=call.region,
        document=dict(call.input),
        state={"created_by": call.principal.arn},
    )
    try:
        call.parts.store.rows.insert(row)
    except RowExists as problem:
        raise ValidationException(
            f"An association from {ends['SourceArn']} to {ends['DestinationArn']} already exists."
        ) from problem
    return ends


@operation("DeleteAssociation")
def delete_association(call: Call) -> dict[str, Any]:
    row = call.parts.store.rows.get(KIND, _name(call), account=call.account, region=call.region)
    ends = {member: call.input[member] for member in ("SourceArn", "DestinationArn")}
    try:
        if row is not None:
            call.parts.store.rows.delete(row)
            return ends
    except RowChanged:
        row = None  # nobody changes an association, so somebody else has deleted it
    raise ResourceNotFound(
        f"An association from {ends['SourceArn']} to {ends['DestinationArn']} does not exist."
    )


@operation("ListAssociations")
def list_associations(call: Call) -> dict[str, Any]:
    """Filters combine with AND; the names and types of both ends are looked up when they are shown."""
    query = _query(call)
    column = _COLUMNS.get(call.input.get("SortBy", "CreationTime"))
    if column is None:
        return _list_sorted(call, query)
    token = call.input.get("NextToken")
    query = replace(query, sort_by=column, after=_place(token, column) if token else None)
    rows, after = call.parts.store.rows.page(query)
    answer: dict[str, Any] = {"AssociationSummaries": [_summary(row, call) for row in rows]}
    if after is not None:
        answer["NextToken"] = f"{after[1]},{after[0]}"
    return answer


def _query(call: Call) -> Query:
    request = call.input
    return Query(
        KIND,
        call.account,
        call.region,
        descending=request.get("SortOrder", "Descending") == "Descending",
        created_after=_seconds(request.get("CreatedAfter")),
        created_before=_seconds(request.get("CreatedBefore")),
        limit=request.get("MaxResults") or PAGE_DEFAULT,
        matches=lambda row: _matches(row, call),
    )


def _list_sorted(call: Call, query: Query) -> dict[str, Any]:
    """By what no column holds: all that match are sorted here, so there may not be too many."""
    rows, more = call.parts.store.rows.page(replace(query, limit=PAGE_ROWS_MAX))
    if more is not None:
        raise ValidationException(
            f"More than {PAGE_ROWS_MAX} associations match; give a filter to sort by "
            f"{call.input['SortBy']}."
        )
    summaries = [_summary(row, call) for row in rows]
    summaries.sort(key=lambda one: one.get(call.input["SortBy"]) or "")
    if query.descending:
        summaries.reverse()
    token = call.input.get("NextToken", "0")
    if not token.isdigit():
        raise ValidationException("Invalid NextToken.")
    end = int(token) + query.limit
    answer: dict[str, Any] = {"AssociationSummaries": summaries[int(token) : end]}
    if end < len(summaries):
        answer["NextToken"] = str(end)
    return answer


def _matches(row: Row, call: Call) -> bool:
    for member in ("SourceArn", "DestinationArn", "AssociationType"):
        if call.input.get(member) and row.document.get(member) != call.input[member]:
            return False
    for end in ("Source", "Destination"):
        wanted = call.input.get(f"{end}Type")
        if wanted and _entity(row.document[f"{end}Arn"], call).get("type") != wanted:
            return False
    return True


def _summary(row: Row, call: Call) -> dict[str, Any]:
    summary = {**row.document, "CreationTime": row.created}
    for end in ("Source", "Destination"):
        entity = _entity(row.document[f"{end}Arn"], call)
        # An end that was deleted has neither.
        summary |= {f"{end}{what.title()}": value for what, value in entity.items()}
    return summary


def _entity(arn: str, call: Call) -> dict[str, Any]:
    row = call.parts.store.rows.by_arn(arn)
    if row is None:
        return {}
    document = row.document
    kind = document.get(f"{row.kind}Type") or row.kind
    return {"name": document.get("ArtifactName") or row.name, "type": kind}


def _seconds(value: Any) -> float | None:
    return value.timestamp() if value is not None else None


def _place(token: str, column: str) -> tuple[Any, int]:
    row_id, comma, value = token.partition(",")
    try:
        return (float(value) if column == "created" else value), int(row_id if comma else "")
    except ValueError as problem:
        raise ValidationException("Invalid NextToken.") from problem
