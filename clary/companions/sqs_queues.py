"""SQS queues: creating and finding them, and their attributes."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import orjson

from clary.engine.call import Call, operation
from clary.model.arns import partition_of
from clary.model.errors import ApiError, NotImplementedException
from clary.store import queue_messages
from clary.store.queue_messages import Redrive
from clary.store.rows import Query, Row, RowExists

KIND = "sqs:Queue"
PAGE = 1_000
TAGS_MAX = 50
# Attribute: its default and bounds.
NUMBERS = {
    "VisibilityTimeout": (30, 0, 43_200),
    "MessageRetentionPeriod": (345_600, 60, 1_209_600),
    "MaximumMessageSize": (262_144, 1_024, 1_048_576),
    "DelaySeconds": (0, 0, 900),
    "ReceiveMessageWaitTimeSeconds": (0, 0, 20),
}
TEXTS = ("Policy", "RedrivePolicy", "RedriveAllowPolicy", "KmsMasterKeyId", "SqsManagedSseEnabled")
KEPT = (*TEXTS, "KmsDataKeyReusePeriodSeconds")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")


def queue_arn(region: str, account: str, name: str) -> str:
    return f"arn:{partition_of(region)}:sqs:{region}:{account}:{name}"


def queue_url(call: Call, name: str) -> str:
    return f"{call.parts.settings.endpoint_url}/{call.account}/{name}"


def queue_of(call: Call) -> Row:
    """The queue that a request names by its URL; only its last part is looked at."""
    url = call.input["QueueUrl"]
    name = urlsplit(url).path.rstrip("/").rpartition("/")[2] or url
    row = call.parts.store.rows.get(KIND, name, account=call.account, region=call.region)
    if row is None:
        raise no_such_queue()
    return row


def no_such_queue() -> ApiError:
    return ApiError("The specified queue does not exist.", code="QueueDoesNotExist", status=400)


def number(row: Row, attribute: str) -> int:
    return int(row.document.get(attribute, NUMBERS[attribute][0]))


def redrive_of(row: Row) -> Redrive | None:
    policy = row.document.get("RedrivePolicy")
    if not policy:
        return None
    found = orjson.loads(policy)
    return Redrive(found["deadLetterTargetArn"], int(found["maxReceiveCount"]))


@operation("CreateQueue", service="sqs")
def create_queue(call: Call) -> dict[str, Any]:
    name = call.input["QueueName"]
    attributes = dict(call.input.get("Attributes") or {})
    if name.endswith(".fifo") or attributes.pop("FifoQueue", "false") == "true":
        raise NotImplementedException("FIFO queues are not built yet in this version of Clary.")
    if not _NAME.fullmatch(name):
        message = (
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
        )
        raise ApiError(message, code="InvalidParameterValue", status=400)
    check_attributes(call, attributes)
    tags = [{"Key": key, "Value": value} for key, value in (call.input.get("tags") or {}).items()]
    arn = queue_arn(call.region, call.account, name)
    row = Row(KIND, name, arn, call.account, call.region, document=attributes, tags=tags)
    try:
        call.parts.store.rows.insert(row)
    except RowExists as problem:
        known = call.parts.store.rows.get(KIND, name, account=call.account, region=call.region)
        differs = known is None or any(
            attribute_of(known, key) != value for key, value in attributes.items()
        )
        if differs:
            message = (
                "A queue already exists with the same name and a different value for an attribute"
            )
            raise ApiError(message, code="QueueNameExists", status=400) from problem
    return {"QueueUrl": queue_url(call, name)}


@operation("GetQueueUrl", service="sqs")
def get_queue_url(call: Call) -> dict[str, Any]:
    name = call.input["QueueName"]
    if call.parts.store.rows.get(KIND, name, account=call.account, region=call.region) is None:
        raise no_such_queue()
    return {"QueueUrl": queue_url(call, name)}


@operation("ListQueues", service="sqs")
def list_queues(call: Call) -> dict[str, Any]:
    limit = call.input.get("MaxResults") or PAGE
    prefix = call.input.get("QueueNamePrefix") or ""
    token = call.input.get("NextToken") or ""
    query = Query(KIND, call.account, call.region, sort_by="name", limit=10_000)
    rows, _ = call.parts.store.rows.page(query)
    names = [row.name for row in rows if row.name.startswith(prefix) and row.name > token]
    answer: dict[str, Any] = {"QueueUrls": [queue_url(call, name) for name in names[:limit]]}
    if len(names) > limit and call.input.get("MaxResults"):
        answer["NextToken"] = names[limit - 1]
    return answer


@operation("DeleteQueue", service="sqs")
def delete_queue(call: Call) -> None:
    row = queue_of(call)
    call.parts.store.rows.delete(row)
    queue_messages.purge(call.parts.store, row.arn)


@operation("PurgeQueue", service="sqs")
def purge_queue(call: Call) -> None:
    queue_messages.purge(call.parts.store, queue_of(call).arn)


@operation("SetQueueAttributes", service="sqs")
def set_queue_attributes(call: Call) -> None:
    row = queue_of(call)
    attributes = call.input.get("Attributes") or {}
    check_attributes(call, attributes)
    row.document = {**row.document, **attributes}
    call.parts.store.rows.update(row)


@operation("GetQueueAttributes", service="sqs")
def get_queue_attributes(call: Call) -> dict[str, Any]:
    row = queue_of(call)
    wanted = set(call.input.get("AttributeNames") or ())
    found: dict[str, str] = {name: str(number(row, name)) for name in NUMBERS}
    found |= {name: row.document[name] for name in KEPT if row.document.get(name)}
    counts = queue_messages.count(call.parts.store, row.arn, call.time)
    found |= {
        "QueueArn": row.arn,
        "CreatedTimestamp": str(int(row.created)),
        "LastModifiedTimestamp": str(int(row.modified)),
        "ApproximateNumberOfMessages": str(counts["waiting"]),
        "ApproximateNumberOfMessagesNotVisible": str(counts["working"]),
        "ApproximateNumberOfMessagesDelayed": str(counts["delayed"]),
    }
    shown = {name: value for name, value in found.items() if "All" in wanted or name in wanted}
    return {"Attributes": shown} if shown else {}


@operation("TagQueue", service="sqs")
def tag_queue(call: Call) -> None:
    row = queue_of(call)
    tags = {tag["Key"]: tag["Value"] for tag in row.tags} | call.input["Tags"]
    if len(tags) > TAGS_MAX:
        message = f"Too many tags added for queue {row.name}."
        raise ApiError(message, code="InvalidParameterValue", status=400)
    row.tags = [{"Key": key, "Value": value} for key, value in tags.items()]
    call.parts.store.rows.update(row)


@operation("UntagQueue", service="sqs")
def untag_queue(call: Call) -> None:
    row = queue_of(call)
    gone = set(call.input["TagKeys"])
    row.tags = [tag for tag in row.tags if tag["Key"] not in gone]
    call.parts.store.rows.update(row)


@operation("ListQueueTags", service="sqs")
def list_queue_tags(call: Call) -> dict[str, Any]:
    row = queue_of(call)
    return {"Tags": {tag["Key"]: tag["Value"] for tag in row.tags}}


def attribute_of(row: Row, name: str) -> str:
    return str(row.document.get(name, NUMBERS.get(name, ("",))[0]))


def check_attributes(call: Call, attributes: dict[str, str]) -> None:
    """Raise for a name that SQS does not know or a value that it would not take."""
    for name, value in attributes.items():
        if name in NUMBERS:
            _, low, high = NUMBERS[name]
            if not value.isascii() or not value.isdigit() or not low <= int(value[:9]) <= high:
                raise _invalid(name, value)
        elif name == "RedrivePolicy" and value:
            _check_redrive(call, value)
        elif name not in KEPT:
            raise ApiError(f"Unknown Attribute {name}.", code="InvalidAttributeName", status=400)


def _check_redrive(call: Call, text: str) -> None:
    try:
        policy = orjson.loads(text)
        target, most = policy["deadLetterTargetArn"], int(policy["maxReceiveCount"])
    except (ValueError, KeyError, TypeError) as problem:
        raise _invalid("RedrivePolicy", text) from problem
    found = call.parts.store.rows.by_arn(str(target))
    if not 1 <= most <= 1_000 or found is None or found.kind != KIND:
        raise _invalid("RedrivePolicy", text)


def _invalid(name: str, value: str) -> ApiError:
    message = f"Invalid value for the parameter {name}: {value[:256]}."
    return ApiError(message, code="InvalidAttributeValue", status=400)
