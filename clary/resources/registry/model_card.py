"""A model card tells what a model is for, how it was made and how good it is; every change is a version."""

from __future__ import annotations

from typing import Any

from clary.engine.call import Call
from clary.engine.naming import find_row
from clary.engine.projection import describe as described
from clary.engine.resource import Resource
from clary.engine.verbs import change_row, update_members
from clary.model.errors import ConflictException, ResourceNotFound, ValidationException
from clary.store.rows import Row

VERSIONS_MAX = 1_000
PAGE_DEFAULT = 10


def _version(row: Row) -> int:
    return int(row.state.get("card_version", 1))


model_card = Resource(
    "ModelCard",
    computed={
        "ModelCardVersion": _version,
        "ModelCardStatus": lambda row: row.document["ModelCardStatus"],
    },
    missing=ResourceNotFound("Could not find model card '{name}'."),
    taken=ConflictException("Modelcard {arn} already exists."),
)


@model_card.operation("UpdateModelCard")
def update_model_card(call: Call) -> dict[str, Any]:
    """Every update makes a version; those before it stay readable."""
    bound = call.parts.bound("ModelCard")
    changes = update_members(bound, call.input)

    def change(row: Row) -> None:
        history = row.state.get("versions", [])
        if len(history) >= VERSIONS_MAX:
            raise ValidationException(f"A model card has at most {VERSIONS_MAX} versions.")
        old = {"document": row.document, "created": row.modified, "by": row.state["created_by"]}
        row.state["versions"] = [*history, old]
        row.state["card_version"] = _version(row) + 1
        row.state["modified_by"] = call.principal.arn
        row.document = dict(row.document)
        changes(row)

    return described(bound, change_row(bound, call, change), "Update")


@model_card.operation("DescribeModelCard")
def describe_model_card(call: Call) -> dict[str, Any]:
    bound = call.parts.bound("ModelCard")
    row = find_row(bound, call)
    wanted = call.input.get("ModelCardVersion") or _version(row)
    if wanted == _version(row):
        return described(bound, row)
    history = row.state.get("versions", [])
    if wanted > len(history):
        raise ResourceNotFound(f"Could not find version {wanted} of model card '{row.name}'.")
    old = history[wanted - 1]
    row.document, row.modified = old["document"], old["created"]
    row.state = {**row.state, "card_version": wanted}
    return described(bound, row)


@model_card.operation("ListModelCardVersions")
def list_model_card_versions(call: Call) -> dict[str, Any]:
    row = find_row(call.parts.bound("ModelCard"), call)
    states = [*row.state.get("versions", []), {"document": row.document, "created": row.modified}]
    shown = [
        {
            "ModelCardName": row.name,
            "ModelCardArn": row.arn,
            "ModelCardStatus": one["document"]["ModelCardStatus"],
            "ModelCardVersion": number,
            "CreationTime": one["created"],
            "LastModifiedTime": one["created"],
        }
        for number, one in enumerate(states, 1)
    ]
    status = call.input.get("ModelCardStatus")
    shown = [one for one in shown if not status or one["ModelCardStatus"] == status]
    if call.input.get("SortOrder") != "Ascending":
        shown.reverse()
    start = _start(call.input.get("NextToken"))
    end = start + (call.input.get("MaxResults") or PAGE_DEFAULT)
    answer: dict[str, Any] = {"ModelCardVersionSummaryList": shown[start:end]}
    if end < len(shown):
        answer["NextToken"] = str(end)
    return answer


def _start(token: str | None) -> int:
    if token is None:
        return 0
    if not token.isdigit():
        raise ValidationException("Invalid NextToken.")
    return int(token)
