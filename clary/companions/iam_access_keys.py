"""The access keys of IAM users."""

from __future__ import annotations

from typing import Any

from clary.companions.iam_entities import (
    USER,
    concurrent_modification,
    delete,
    find,
    limit_exceeded,
    no_such_entity,
    page,
    validation_error,
)
from clary.companions.iam_users import user_name
from clary.engine.call import Call, operation
from clary.identity.access_keys import (
    ACTIVE,
    INACTIVE,
    KIND,
    USE_KIND,
    access_key_arn,
)
from clary.identity.access_keys import create_access_key as make_access_key
from clary.identity.sealing import install_key
from clary.store.rows import Row, RowChanged

KEYS_MAX = 2


def _find_key(call: Call, user: str) -> Row:
    access_key = call.input["AccessKeyId"]
    rows = call.parts.store.rows
    row = rows.get(KIND, access_key, account=call.account, parent=user)
    if row is None:
        raise no_such_entity(f"The Access Key with id {access_key} cannot be found.")
    return row


def _described(row: Row) -> dict[str, Any]:
    return {
        "UserName": row.parent,
        "AccessKeyId": row.name,
        "Status": row.status,
        "CreateDate": row.created,
    }


@operation("CreateAccessKey", service="iam")
def create_access_key(call: Call) -> dict[str, Any]:
    user = find(call, USER, user_name(call)).name
    store = call.parts.store
    if len(store.rows.every(KIND, account=call.account, parent=user)) >= KEYS_MAX:
        raise limit_exceeded(f"Cannot exceed quota for AccessKeysPerUser: {KEYS_MAX}")
    key = install_key(call.parts.settings.home)
    row, secret = make_access_key(store, call.account, key, user)
    return {"AccessKey": _described(row) | {"SecretAccessKey": secret}}


@operation("ListAccessKeys", service="iam")
def list_access_keys(call: Call) -> dict[str, Any]:
    user = find(call, USER, user_name(call)).name
    rows = call.parts.store.rows.every(KIND, account=call.account, parent=user)
    answer = page(call, "AccessKeyMetadata", rows, lambda row: row.name)
    answer["AccessKeyMetadata"] = [_described(row) for row in answer["AccessKeyMetadata"]]
    return answer


@operation("UpdateAccessKey", service="iam")
def update_access_key(call: Call) -> dict[str, Any]:
    if call.input["Status"] not in (ACTIVE, INACTIVE):
        raise validation_error(f"Status {call.input['Status']} is not one of Active, Inactive.")
    row = _find_key(call, user_name(call))
    row.status = call.input["Status"]
    try:
        call.parts.store.rows.update(row)
    except RowChanged as problem:
        raise concurrent_modification() from problem
    return {}


@operation("DeleteAccessKey", service="iam")
def delete_access_key(call: Call) -> dict[str, Any]:
    delete(call, _find_key(call, user_name(call)))
    return {}


@operation("GetAccessKeyLastUsed", service="iam")
def get_access_key_last_used(call: Call) -> dict[str, Any]:
    access_key = call.input["AccessKeyId"]
    rows = call.parts.store.rows
    row = rows.by_arn(access_key_arn(call.account, access_key))
    if row is None:
        raise no_such_entity(f"The Access Key with id {access_key} cannot be found.")
    use = rows.get(USE_KIND, access_key, account=call.account)
    last: dict[str, Any] = {"ServiceName": "N/A", "Region": "N/A"}
    if use is not None:
        last = {
            "LastUsedDate": use.document["Date"],
            "ServiceName": use.document["Service"],
            "Region": use.document["Region"] or "N/A",
        }
    return {"UserName": row.parent, "AccessKeyLastUsed": last}
