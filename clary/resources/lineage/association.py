"""An association leads from one lineage entity to another: an edge of the lineage graph."""

from __future__ import annotations

from typing import Any

from clary.engine.call import Call, operation
from clary.model.errors import ResourceNotFound, ValidationException
from clary.store.rows import Query, Row, RowExists

KIND = "Association"
PAGE_DEFAULT = 10


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
    if row is None:
        raise ResourceNotFound(
            f"An association from {call.input['SourceArn']} to {call.input['DestinationArn']} "
            "does not exist."
        )
    call.parts.store.rows.delete(row)
    return {member: call.input[member] for member in ("SourceArn", "DestinationArn")}


@operation("ListAssociations")
def list_associations(call: Call) -> dict[str, Any]:
    """Filters combine with AND; the names and types of both ends are looked up when they are shown."""
    request = call.input
    newest_first = request.get("SortOrder", "Descending") == "Descending"
    token = request.get("NextToken")
    query = Query(
        KIND,
        call.account,
        call.region,
        descending=newest_first,
        created_after=_seconds(request.get("CreatedAfter")),
        created_before=_seconds(request.get("CreatedBefore")),
        limit=request.get("MaxResults") or PAGE_DEFAULT,
        after=_place(token) if token else None,
        matches=lambda row: _matches(row, call),
    )
    rows, after = call.parts.store.rows.page(query)
    answer: dict[str, Any] = {"AssociationSummaries": [_summary(row, call) for row in rows]}
    if after is not None:
        answer["NextToken"] = f"{after[0]!r},{after[1]}"
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
        summary[f"{end}Name"] = entity.get("name")
        summary[f"{end}Type"] = entity.get("type")
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


def _place(token: str) -> tuple[float, int]:
    value, comma, row_id = token.partition(",")
    try:
        return float(value), int(row_id if comma else "")
    except ValueError as problem:
        raise ValidationException("Invalid NextToken.") from problem
