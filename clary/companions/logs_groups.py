"""Log groups of CloudWatch Logs: their streams, retention and tags."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

import orjson

from clary.engine.call import Call, Parts, operation
from clary.model.errors import ApiError
from clary.store import log_events
from clary.store.log_events import Stream, StreamExists, StreamQuery, Window
from clary.store.rows import Query, Row, RowChanged, RowExists

GROUP = "logs:LogGroup"
SUBSCRIPTION_FILTER = "logs:SubscriptionFilter"  # its parent is the name of the group
PAGE_MAX = 50
TAGS_MAX = 50
ATTEMPTS_MAX = 8
DAY_MILLISECONDS = 24 * 3600 * 1000
PURGE_ROWS = (
    50_000  # that one DeleteLogGroup or DeleteLogStream removes at once; `purge` does the rest
)
# PutRetentionPolicy documents these and no others.
RETENTION_MONTHS_DAYS = (30, 60, 90, 120, 150, 180, 365, 400, 545)
RETENTION_YEARS_DAYS = (731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
RETENTION_DAYS = frozenset({1, 3, 5, 7, 14, *RETENTION_MONTHS_DAYS, *RETENTION_YEARS_DAYS})


def invalid(message: str) -> ApiError:
    return ApiError(message, code="InvalidParameterException", status=400)


def not_found(what: str) -> ApiError:
    message = f"The specified {what} does not exist."
    return ApiError(message, code="ResourceNotFoundException", status=400)


def already_exists(what: str) -> ApiError:
    message = f"The specified {what} already exists"
    return ApiError(message, code="ResourceAlreadyExistsException", status=400)


def find_group(call: Call, name: str | None = None) -> Row:
    """The group that the input names, by name or by `logGroupIdentifier`; raise ResourceNotFoundException."""
    name = name or group_name(call)
    row = call.parts.store.rows.get(GROUP, name, account=call.account, region=call.region)
    if row is None:
        raise not_found("log group")
    return row


def group_name(call: Call) -> str:
    name, identifier = call.input.get("logGroupName"), call.input.get("logGroupIdentifier")
    if bool(name) == bool(identifier):
        raise invalid("Exactly one of logGroupName and logGroupIdentifier must be specified.")
    return name or _name_in(identifier or "")


def stream_key(row: Row) -> str:
    """What the streams of a group are filed under."""
    return f"{row.account}:{row.region}:{row.name}"


def find_stream(call: Call, group: Row) -> Stream:
    stream = log_events.find_stream(
        call.parts.telemetry, stream_key(group), call.input["logStreamName"]
    )
    if stream is None:
        raise not_found("log stream")
    return stream


def expired_before(group: Row, now: float) -> int:
    """The time in milliseconds before which retention has removed everything."""
    days = group.document.get("retentionInDays")
    return int(now * 1000) - days * DAY_MILLISECONDS if days else 0


def sequence_token(sequence: int) -> str:
    return f"{sequence:056d}"


def purge(parts: Parts, now: float, *, rows_max: int = PURGE_ROWS) -> int:
    """Remove events that are beyond retention or whose stream is gone, at most `rows_max`."""
    removed = log_events.purge_deleted(parts.telemetry, rows_max=rows_max)
    for region in parts.store.rows.regions(GROUP):
        for group in parts.store.rows.every(GROUP, account=parts.settings.account, region=region):
            edge = expired_before(group, now)
            if edge > 0 and removed < rows_max:
                key = stream_key(group)
                removed += log_events.purge_older(
                    parts.telemetry, key, edge, rows_max=rows_max - removed
                )
    return removed


@operation("CreateLogGroup", service="logs")
def create_log_group(call: Call) -> None:
    name = call.input["logGroupName"]
    document = {
        member: call.input[member]
        for member in ("kmsKeyId", "logGroupClass", "deletionProtectionEnabled")
        if call.input.get(member) is not None
    }
    row = Row(
        GROUP,
        name,
        f"arn:aws:logs:{call.region}:{call.account}:log-group:{name}",
        call.account,
        call.region,
        document=document,
        tags=_as_rows(call.input.get("tags") or {}),
        created=call.time,
    )
    try:
        call.parts.store.rows.insert(row)
    except RowExists as problem:
        raise already_exists("log group") from problem


@operation("DeleteLogGroup", service="logs")
def delete_log_group(call: Call) -> None:
    row = find_group(call)
    if row.document.get("deletionProtectionEnabled"):
        raise ApiError(
            f"The log group {row.name} has deletion protection enabled.",
            code="ValidationException",
            status=400,
        )
    _remove(call, row)
    log_events.delete_streams(call.parts.telemetry, stream_key(row))
    log_events.purge_deleted(call.parts.telemetry, rows_max=PURGE_ROWS)


@operation("DescribeLogGroups", service="logs")
def describe_log_groups(call: Call) -> dict[str, Any]:
    prefix = call.input.get("logGroupNamePrefix") or ""
    pattern = call.input.get("logGroupNamePattern") or ""
    if prefix and pattern:
        raise invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive.")
    named = {_name_in(one) for one in call.input.get("logGroupIdentifiers") or []}
    wanted_class = call.input.get("logGroupClass")

    def matches(row: Row) -> bool:
        return (
            row.name.startswith(prefix)
            and pattern.lower() in row.name.lower()
            and (not named or row.name in named)
            and (not wanted_class or _class_of(row) == wanted_class)
        )

    rows, token = _page_of_groups(call, matches, prefix or pattern, PAGE_MAX)
    answer: dict[str, Any] = {"logGroups": [_described(call, row) for row in rows]}
    return answer | token


@operation("ListLogGroups", service="logs")
def list_log_groups(call: Call) -> dict[str, Any]:
    # The pattern is characters of a name, anchored at the beginning by a "^".
    pattern = call.input.get("logGroupNamePattern") or ""
    wanted_class = call.input.get("logGroupClass")

    def matches(row: Row) -> bool:
        fits = row.name.startswith(pattern[1:]) if pattern[:1] == "^" else pattern in row.name
        return fits and (not wanted_class or _class_of(row) == wanted_class)

    rows, token = _page_of_groups(call, matches, "", 1_000)
    groups = [
        {"logGroupName": row.name, "logGroupArn": row.arn, "logGroupClass": _class_of(row)}
        for row in rows
    ]
    answer: dict[str, Any] = {"logGroups": groups}
    return answer | token


@operation("CreateLogStream", service="logs")
def create_log_stream(call: Call) -> None:
    group = find_group(call)
    name = call.input["logStreamName"]
    try:
        log_events.create_stream(
            call.parts.telemetry, stream_key(group), name, now=int(call.time * 1000)
        )
    except StreamExists as problem:
        raise already_exists("log stream") from problem


@operation("DeleteLogStream", service="logs")
def delete_log_stream(call: Call) -> None:
    group = find_group(call)
    stream = find_stream(call, group)
    log_events.delete_streams(call.parts.telemetry, stream_key(group), stream.name)
    log_events.purge_deleted(call.parts.telemetry, rows_max=PURGE_ROWS)


@operation("DescribeLogStreams", service="logs")
def describe_log_streams(call: Call) -> dict[str, Any]:
    """A page carries `nextToken` only where more streams follow: clients loop while they see one."""
    group = find_group(call)
    prefix = call.input.get("logStreamNamePrefix") or ""
    by_time = call.input.get("orderBy") == "LastEventTime"
    if prefix and by_time:
        raise invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
    token = call.input.get("nextToken")
    query = StreamQuery(
        stream_key(group),
        prefix,
        by_time=by_time,
        descending=bool(call.input.get("descending")),
        limit=call.input.get("limit") or PAGE_MAX,
        after=_place(token) if token else None,
    )
    page, after = log_events.list_streams(call.parts.telemetry, query)
    answer: dict[str, Any] = {"logStreams": [_described_stream(group, one) for one in page]}
    if after is not None:
        answer["nextToken"] = _token(after)
    return answer


@operation("PutRetentionPolicy", service="logs")
def put_retention_policy(call: Call) -> None:
    days = call.input["retentionInDays"]
    if days not in RETENTION_DAYS:
        allowed = ", ".join(str(one) for one in sorted(RETENTION_DAYS))
        raise invalid(
            f"1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy "
            f"constraint: Member must satisfy enum value set: [{allowed}]"
        )
    _change(call, lambda row: row.document.update(retentionInDays=days))


@operation("DeleteRetentionPolicy", service="logs")
def delete_retention_policy(call: Call) -> None:
    _change(call, lambda row: row.document.pop("retentionInDays", None))


@operation("DescribeSubscriptionFilters", service="logs")
def describe_subscription_filters(call: Call) -> dict[str, Any]:
    group = find_group(call)
    prefix = call.input.get("filterNamePrefix") or ""
    rows = call.parts.store.rows.every(
        SUBSCRIPTION_FILTER, account=call.account, region=call.region, parent=group.name
    )
    return {"subscriptionFilters": [row.document for row in rows if row.name.startswith(prefix)]}


@operation("TagLogGroup", service="logs")
def tag_log_group(call: Call) -> None:
    _tag(call, group_name(call))


@operation("UntagLogGroup", service="logs")
def untag_log_group(call: Call) -> None:
    _untag(call, group_name(call), call.input["tags"])


@operation("ListTagsLogGroup", service="logs")
def list_tags_log_group(call: Call) -> dict[str, Any]:
    return {"tags": _as_map(find_group(call))}


@operation("TagResource", service="logs")
def tag_resource(call: Call) -> None:
    _tag(call, _name_in(call.input["resourceArn"]))


@operation("UntagResource", service="logs")
def untag_resource(call: Call) -> None:
    _untag(call, _name_in(call.input["resourceArn"]), call.input["tagKeys"])


@operation("ListTagsForResource", service="logs")
def list_tags_for_resource(call: Call) -> dict[str, Any]:
    return {"tags": _as_map(find_group(call, _name_in(call.input["resourceArn"])))}


def _remove(call: Call, row: Row) -> None:
    for _ in range(ATTEMPTS_MAX):
        try:
            return call.parts.store.rows.delete(row)
        except RowChanged:
            row = find_group(call, row.name)
    raise _conflict()


def _change(call: Call, edit: Callable[[Row], object], name: str | None = None) -> None:
    """Edit a group and write it back, again from the start if somebody else was quicker."""
    for _ in range(ATTEMPTS_MAX):
        row = find_group(call, name)
        edit(row)
        try:
            call.parts.store.rows.update(row)
            return
        except RowChanged:
            continue
    raise _conflict()


def _conflict() -> ApiError:
    message = "Multiple concurrent requests to update the same resource were in conflict."
    return ApiError(message, code="OperationAbortedException", status=400)


def _tag(call: Call, name: str) -> None:
    tags = call.input["tags"]

    def edit(row: Row) -> None:
        row.tags = _as_rows(_as_map(row) | tags)
        if len(row.tags) > TAGS_MAX:
            message = f"The maximum number of tags per resource is {TAGS_MAX}."
            raise ApiError(message, code="TooManyTagsException", status=400)

    _change(call, edit, name)


def _untag(call: Call, name: str, keys: list[str]) -> None:
    def edit(row: Row) -> None:
        row.tags = [tag for tag in row.tags if tag["Key"] not in keys]

    _change(call, edit, name)


def _as_rows(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _as_map(row: Row) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in row.tags}


def _name_in(identifier: str) -> str:
    """The group's name in an ARN, with or without `:*`; or the name itself."""
    if not identifier.startswith("arn:"):
        return identifier
    head, found, name = identifier.partition(":log-group:")
    if not found or len(head.split(":")) != 5:
        raise invalid(f"{identifier} is not the ARN of a log group.")
    return name.removesuffix(":*")


def _class_of(row: Row) -> str:
    return row.document.get("logGroupClass") or "STANDARD"


def _page_of_groups(
    call: Call, matches: Callable[[Row], bool], contains: str, limit_default: int
) -> tuple[list[Row], dict[str, str]]:
    token = call.input.get("nextToken")
    query = Query(
        GROUP,
        call.account,
        call.region,
        name_contains=contains,
        sort_by="name",
        limit=call.input.get("limit") or limit_default,
        after=_place(token) if token else None,
        matches=matches,
    )
    rows, after = call.parts.store.rows.page(query)
    return rows, {"nextToken": _token(after)} if after is not None else {}


def _described(call: Call, row: Row) -> dict[str, Any]:
    return {
        "logGroupName": row.name,
        "creationTime": int(row.created * 1000),
        "metricFilterCount": 0,
        "arn": f"{row.arn}:*",
        "logGroupArn": row.arn,
        "storedBytes": log_events.group_bytes(call.parts.telemetry, stream_key(row)),
        **row.document,
        "logGroupClass": _class_of(row),
    }


def _described_stream(group: Row, stream: Stream) -> dict[str, Any]:
    described = {
        "logStreamName": stream.name,
        "creationTime": stream.created,
        "arn": f"{group.arn}:log-stream:{stream.name}",
        "storedBytes": stream.bytes,
        "uploadSequenceToken": sequence_token(stream.sequence),
    }
    if not stream.empty:
        described["firstEventTimestamp"] = stream.first_time
        described["lastEventTimestamp"] = stream.last_time
        described["lastIngestionTime"] = stream.last_ingestion
    return described


def _token(place: tuple[Any, int]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode()


def _place(token: str) -> tuple[Any, int]:
    try:
        value, row_id = orjson.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError, binascii.Error) as problem:
        raise invalid("The specified nextToken is invalid.") from problem
    if not isinstance(value, str | int) or not isinstance(row_id, int):
        raise invalid("The specified nextToken is invalid.")
    return value, row_id


def window_of(call: Call, group: Row, *, end: int | None) -> Window:
    """The times that a read asks for, less what retention has removed. `end` is exclusive."""
    start = max(call.input.get("startTime") or 0, expired_before(group, call.time), 0)
    return Window(
        start=min(start, log_events.TIME_MAX),
        end=log_events.TIME_MAX if end is None else max(0, min(end, log_events.TIME_MAX)),
    )
