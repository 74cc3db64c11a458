"""What users, roles, groups and policies of IAM have in common: names, pages, tags, guarded
changes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from clary.engine.call import Call
from clary.identity.sessions import new_unique_id
from clary.model.errors import ApiError
from clary.store.rows import Row, RowChanged, RowExists

MAX_ITEMS_DEFAULT = 100
TAGS_MAX = 50
ATTEMPTS_MAX = 8

_PATH = re.compile(r"/|/[\x21-\x7e]+/")


@dataclass(frozen=True, slots=True)
class Noun:
    """A kind of IAM entity and how AWS speaks of it."""

    kind: str
    word: str  # "role"
    member: str  # "RoleName"
    id_member: str  # "RoleId"
    id_prefix: str
    inline_characters_max: int  # of all inline policies together


ROLE = Noun("iam:Role", "role", "RoleName", "RoleId", "AROA", 10_240)
USER = Noun("iam:User", "user", "UserName", "UserId", "AIDA", 2_048)
GROUP = Noun("iam:Group", "group", "GroupName", "GroupId", "AGPA", 5_120)
PROFILE = Noun(
    "iam:InstanceProfile", "instance-profile", "InstanceProfileName", "InstanceProfileId", "AIPA", 0
)


def no_such_entity(message: str) -> ApiError:
    return ApiError(message, code="NoSuchEntity", status=404)


def delete_conflict(message: str) -> ApiError:
    return ApiError(message, code="DeleteConflict", status=409)


def limit_exceeded(message: str) -> ApiError:
    return ApiError(message, code="LimitExceeded", status=409)


def invalid_input(message: str) -> ApiError:
    return ApiError(message, code="InvalidInput", status=400)


def validation_error(message: str) -> ApiError:
    return ApiError(message, code="ValidationError", status=400)


def find(call: Call, noun: Noun, name: str) -> Row:
    """The entity; raise NoSuchEntity."""
    row = call.parts.store.rows.get(noun.kind, name, account=call.account)
    if row is None:
        label = noun.word if noun is not PROFILE else "Instance Profile"
        article = "The " if noun is not PROFILE else ""
        verb = "with name " if noun is not PROFILE else ""
        raise no_such_entity(f"{article}{label} {verb}{name} cannot be found.")
    return row


def every(call: Call, noun: Noun) -> list[Row]:
    return call.parts.store.rows.every(noun.kind, account=call.account)


def below_path(rows: Iterable[Row], prefix: str | None) -> list[Row]:
    wanted = prefix or "/"
    return [row for row in rows if row.document["Path"].startswith(wanted)]


def create(
    call: Call,
    noun: Noun,
    document: dict[str, Any],
    tags: list[dict[str, str]] | None = None,
    *,
    named: dict[str, str] | None = None,
) -> Row:
    """Insert an entity with the name and path of the call's input, or of `named`.

    Raise EntityAlreadyExists.
    """
    source = named or call.input
    name = source[noun.member]
    path = source.get("Path") or "/"
    if not _PATH.fullmatch(path):
        raise validation_error(
            "The specified value for path is invalid. It must begin and end with / and contain "
            "only alphanumeric characters and/or / characters."
        )
    _refuse_same_letters(call, noun, name)
    row = Row(
        kind=noun.kind,
        name=name,
        arn=f"arn:aws:iam::{call.account}:{noun.word}{path}{name}",
        account=call.account,
        document={"Path": path, noun.id_member: new_unique_id(noun.id_prefix), **document},
        tags=checked_tags([], tags or []),
        created=float(int(call.time)),
    )
    try:
        return call.parts.store.rows.insert(row)
    except RowExists as problem:
        raise _already_exists(noun, name) from problem


def _refuse_same_letters(call: Call, noun: Noun, name: str) -> None:
    """Names are unique whatever their case, though they keep the case they were given."""
    folded = name.lower()
    if any(row.name.lower() == folded for row in every(call, noun)):
        raise _already_exists(noun, name)


def _already_exists(noun: Noun, name: str) -> ApiError:
    label = "Instance Profile" if noun is PROFILE else noun.word.capitalize()
    message = f"{label} with name {name} already exists."
    return ApiError(message, code="EntityAlreadyExists", status=409)


def change(call: Call, noun: Noun, name: str, edit: Callable[[Row], None]) -> Row:
    """Edit an entity under its guard: `edit` runs again on the newer row when somebody was
    quicker.
    """
    rows = call.parts.store.rows
    for _ in range(ATTEMPTS_MAX):
        row = find(call, noun, name)
        edit(row)
        try:
            return rows.update(row)
        except RowChanged:
            continue
    raise concurrent_modification()


def concurrent_modification() -> ApiError:
    message = "Request was rejected because multiple requests to change this object were submitted simultaneously."  # fmt: skip  # noqa: E501
    return ApiError(message, code="ConcurrentModification", status=409)


def delete(call: Call, row: Row) -> None:
    try:
        call.parts.store.rows.delete(row)
    except RowChanged as problem:
        raise concurrent_modification() from problem


def page(
    call: Call, member: str, items: list[Any], key: Callable[[Any], str] | None = None
) -> dict[str, Any]:
    """One page of `items`, which are in the order of `key` (by default the items are texts)."""
    key = key or str
    after = _read_marker(call.input.get("Marker"))
    if after is not None:
        items = [item for item in items if key(item) > after]
    count = call.input.get("MaxItems") or MAX_ITEMS_DEFAULT
    answer: dict[str, Any] = {member: items[:count], "IsTruncated": len(items) > count}
    if answer["IsTruncated"]:
        marker = key(items[count - 1]).encode()
        answer["Marker"] = base64.urlsafe_b64encode(marker).decode()
    return answer


def _read_marker(marker: str | None) -> str | None:
    if marker is None:
        return None
    try:
        return base64.b64decode(marker, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as problem:
        raise validation_error(f"Invalid Marker: {marker[:64]}") from problem


def url_encoded(document: str) -> str:
    """A policy document as IAM answers it; botocore decodes it again."""
    return quote(document, safe="")


def checked_tags(held: list[dict[str, str]], added: list[dict[str, str]]) -> list[dict[str, str]]:
    """The tags after adding some; keys ignore case, as IAM's do."""
    folded = [tag["Key"].lower() for tag in added]
    if len(set(folded)) != len(folded):
        message = "Duplicate tag keys found. Please note that Tag keys are case insensitive."
        raise invalid_input(message)
    if any(key.startswith("aws:") for key in folded):
        raise invalid_input("The tag key prefix aws: is reserved for AWS use.")
    kept = {tag["Key"].lower(): tag for tag in held}
    kept |= {tag["Key"].lower(): {"Key": tag["Key"], "Value": tag["Value"]} for tag in added}
    if len(kept) > TAGS_MAX:
        raise limit_exceeded(f"The number of tags has reached the maximum limit of {TAGS_MAX}.")
    return list(kept.values())


def add_tags(call: Call, row: Row) -> None:
    row.tags = checked_tags(row.tags, call.input["Tags"])


def remove_tags(call: Call, row: Row) -> None:
    gone = {key.lower() for key in call.input["TagKeys"]}
    row.tags = [tag for tag in row.tags if tag["Key"].lower() not in gone]


def page_of_tags(call: Call, row: Row) -> dict[str, Any]:
    return page(call, "Tags", sorted(row.tags, key=_tag_key), _tag_key)


def tag(call: Call, noun: Noun) -> dict[str, Any]:
    change(call, noun, call.input[noun.member], partial(add_tags, call))
    return {}


def untag(call: Call, noun: Noun) -> dict[str, Any]:
    change(call, noun, call.input[noun.member], partial(remove_tags, call))
    return {}


def list_tags(call: Call, noun: Noun) -> dict[str, Any]:
    return page_of_tags(call, find(call, noun, call.input[noun.member]))


def _tag_key(tag: dict[str, str]) -> str:
    return tag["Key"]


def by_name(row: Row) -> str:
    return row.name
