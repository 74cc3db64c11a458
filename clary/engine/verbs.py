"""The verbs that every kind shares: create, describe, list, update, delete and stop."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from clary.engine.call import Call
from clary.engine.listing import list_resources
from clary.engine.naming import arn_of, find_row, name_in, parent_in
from clary.engine.projection import describe as described
from clary.engine.resource import BoundResource
from clary.model.errors import ConflictException, NotImplementedException, ValidationException
from clary.model.kinds import IDEMPOTENCY_TOKENS
from clary.store.rows import Event, Row, RowChanged, RowExists

Verb = Callable[[BoundResource, Call], "dict[str, Any]"]
ATTEMPTS_MAX = 5


def create(
    bound: BoundResource, call: Call, state: dict[str, Any] | None = None, *, status: str = ""
) -> dict[str, Any]:
    """Check, insert, answer; `state` is what the plan of the kind starts from, and `status` where it does."""
    for check in bound.resource.admits:
        check(call)
    row = new_row(bound, call)
    row.state.update(state or {})
    if status:
        row.status = status
        if bound.resource.lifecycle.is_terminal(status):
            row.due = None  # there is nothing to plan
    # A kind without a status has no transition to record: its row tells when it was made, and by whom.
    happened = (transition("", row.status),) if row.status else ()
    try:
        call.parts.store.rows.insert(row, *happened)
    except RowExists as problem:
        found = _same_request(bound, call, row)
        if found is None:
            raise bound.taken_error(row.name, row.arn) from problem
        row = found
    if bound.resource.plan is not None:
        call.parts.wake()
    return described(bound, row, "Create")


def new_row(bound: BoundResource, call: Call) -> Row:
    resource, kind = bound.resource, bound.kind
    name = name_in(bound, call.input) if kind.is_named_by_caller else ""
    if not name:
        if resource.identifier is None:
            raise ValueError(
                f"{bound.noun} is named by the service, so it must declare `identifier`"
            )
        name = resource.identifier(call)
    parent = parent_in(bound, call.input)
    left_out = ("Tags", *IDEMPOTENCY_TOKENS)
    given = {m: as_kept(value) for m, value in call.input.items() if m not in left_out}
    token = next((call.input[one] for one in IDEMPOTENCY_TOKENS if one in call.input), "")
    owner = call.principal.acts_for
    return Row(
        kind=bound.noun,
        name=name,
        arn=arn_of(bound, call, parent, name),
        account=call.account,
        region=call.region,
        parent=parent,
        status=resource.lifecycle.initial,
        document={**resource.defaults, **given},
        state={
            "created_by": call.principal.arn,
            **({"token": token} if token else {}),
            **({"owner": owner} if owner else {}),
        },
        tags=call.input.get("Tags") or [],
        due=call.time if resource.plan is not None else None,
        created=call.time,
    )


def as_kept(value: Any) -> Any:
    """A member of a request as documents keep it: they are JSON, so times become epoch seconds."""
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, dict):
        return {key: as_kept(one) for key, one in value.items()}
    if isinstance(value, list):
        return [as_kept(one) for one in value]
    return value


def describe(bound: BoundResource, call: Call) -> dict[str, Any]:
    return described(bound, find_row(bound, call))


def update(bound: BoundResource, call: Call) -> dict[str, Any]:
    changes = update_members(bound, call.input)

    def change(row: Row) -> None:
        changes(row)
        row.state["modified_by"] = call.principal.arn

    return described(bound, change_row(bound, call, change), "Update")


def update_members(bound: BoundResource, request: dict[str, Any]) -> Callable[[Row], None]:
    """What an update request does to a row: members are replaced, `XToRemove` names keys of X to take out."""
    left_out = {*bound.kind.identity, *IDEMPOTENCY_TOKENS, "DeleteProperties"}
    given = {name: as_kept(value) for name, value in request.items() if name not in left_out}
    removed = {name: given.pop(name) for name in list(given) if name.endswith("ToRemove")}

    def change(row: Row) -> None:
        for name, value in given.items():
            known = row.document.get(name)
            # Maps that have a ToRemove are merged: that is what makes the removal needed.
            merges = f"{name}ToRemove" in bound.kind.input("Update") and isinstance(known, dict)
            row.document[name] = {**(known or {}), **value} if merges else value
        for name, keys in removed.items():
            member = name.removesuffix("ToRemove")
            known = row.document.get(member) or {}
            row.document[member] = {key: one for key, one in known.items() if key not in keys}
        for name in request.get("DeleteProperties") or []:
            row.document.pop(name, None)

    return change


def delete(bound: BoundResource, call: Call) -> dict[str, Any]:
    lifecycle = bound.resource.lifecycle

    def may_go(row: Row) -> None:
        if lifecycle.transitions and not lifecycle.is_terminal(row.status):
            raise ValidationException(
                f"The request was rejected because the {bound.kind.words} is in status {row.status}."
            )
        for check in bound.resource.retains:
            check(call, row)

    return described(bound, delete_row(bound, call, may_go), "Delete")


def stop(bound: BoundResource, call: Call) -> dict[str, Any]:
    lifecycle = bound.resource.lifecycle
    if not lifecycle.stopping:
        raise NotImplementedException(
            f"{call.operation} is not built yet in this version of Clary."
        )

    def change(row: Row) -> None:
        if lifecycle.is_terminal(row.status):
            raise ValidationException(
                f"The request was rejected because the {bound.kind.words} is in status {row.status}."
            )
        row.status = lifecycle.stopping
        row.due = call.time

    row = change_row(bound, call, change)
    call.parts.wake()
    return described(bound, row, "Stop")


def change_row(bound: BoundResource, call: Call, change: Callable[[Row], None]) -> Row:
    """Read, change, write; read again where the loop was quicker, a bounded number of times."""
    for _ in range(ATTEMPTS_MAX):
        row = find_row(bound, call)
        before = row.status
        change(row)
        happened = () if row.status == before else (transition(before, row.status),)
        try:
            return call.parts.store.rows.update(row, *happened)
        except RowChanged:
            continue
    raise _met_others(bound, call)


def delete_row(
    bound: BoundResource,
    call: Call,
    may_go: Callable[[Row], None],
    find: Callable[[BoundResource, Call], Row] = find_row,
) -> Row:
    """Read, check, delete; read again where somebody wrote in between, a bounded number of times."""
    for _ in range(ATTEMPTS_MAX):
        row = find(bound, call)
        may_go(row)
        try:
            call.parts.store.rows.delete(row, transition(row.status, "Deleted"))
        except RowChanged:
            continue
        return row
    raise _met_others(bound, call)


def _met_others(bound: BoundResource, call: Call) -> ConflictException:
    return ConflictException(
        f"{call.operation} met {ATTEMPTS_MAX} other writers of the same {bound.kind.words}; try again."
    )


def transition(source: str, target: str) -> Event:
    return Event("transition", {"from": source, "to": target})


def _same_request(bound: BoundResource, call: Call, row: Row) -> Row | None:
    """The row that the same request made before, by its idempotency token."""
    token = row.state.get("token")
    if not token:
        return None
    found = call.parts.store.rows.get(
        bound.noun, row.name, account=row.account, region=row.region, parent=row.parent
    )
    return found if found is not None and found.state.get("token") == token else None


VERBS: dict[str, Verb] = {
    "Create": create,
    "Describe": describe,
    "List": list_resources,
    "Update": update,
    "Delete": delete,
    "Stop": stop,
}
