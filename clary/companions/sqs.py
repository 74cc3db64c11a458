"""SQS messages: sending, receiving, hiding and deleting them."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import time
import uuid
from collections.abc import Callable
from typing import Any

from clary.companions.sqs_queues import no_such_queue, number, queue_of, redrive_of
from clary.engine.call import Call, operation
from clary.model.errors import ApiError
from clary.store import queue_messages
from clary.store.queue_messages import Message
from clary.store.rows import Row

BATCH_MAX = 10
BATCH_BYTES_MAX = 1_048_576
HIDDEN_SECONDS_MAX = 43_200
# A long poll holds a thread of control. An earlier empty answer only lets the client ask again.
WAIT_SECONDS_MAX = 5.0
LOOK_SECONDS = 0.05

_ENTRY_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_NOT_TEXT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@operation("SendMessage", service="sqs")
def send_message(call: Call) -> dict[str, Any]:
    row = queue_of(call)
    message = _message(call, row, call.input)
    queue_messages.send(call.parts.store, row.arn, [message])
    return _sent(message)


@operation("SendMessageBatch", service="sqs")
def send_message_batch(call: Call) -> dict[str, Any]:
    row = queue_of(call)
    entries = _entries(call)
    if sum(len(one["MessageBody"].encode()) for one in entries) > BATCH_BYTES_MAX:
        message = f"Batch requests cannot be longer than {BATCH_BYTES_MAX} bytes."
        raise ApiError(message, code="BatchRequestTooLong", status=400)
    sent: list[Message] = []

    def send(entry: dict[str, Any]) -> dict[str, Any]:
        sent.append(_message(call, row, entry))
        return _sent(sent[-1])

    answer = _each(entries, send)
    queue_messages.send(call.parts.store, row.arn, sent)
    return answer


@operation("ReceiveMessage", service="sqs")
def receive_message(call: Call) -> dict[str, Any]:
    row = queue_of(call)
    count = call.input.get("MaxNumberOfMessages", 1)
    if not 1 <= count <= BATCH_MAX:
        raise _invalid(f"Value {count} for parameter MaxNumberOfMessages is invalid.")
    hidden = call.input.get("VisibilityTimeout", number(row, "VisibilityTimeout"))
    if not 0 <= hidden <= HIDDEN_SECONDS_MAX:
        raise _invalid(f"Value {hidden} for parameter VisibilityTimeout is invalid.")
    wait = call.input.get("WaitTimeSeconds", number(row, "ReceiveMessageWaitTimeSeconds"))
    deadline = time.monotonic() + min(float(wait), WAIT_SECONDS_MAX)
    while True:
        found = queue_messages.receive(
            call.parts.store,
            row.arn,
            count=count,
            hidden_seconds=hidden,
            now=call.parts.clock(),
            redrive=redrive_of(row),
        )
        if found:
            return {"Messages": [_received(call, one) for one in found]}
        if time.monotonic() >= deadline:
            return {}
        time.sleep(LOOK_SECONDS)


@operation("DeleteMessage", service="sqs")
def delete_message(call: Call) -> None:
    _delete(call, queue_of(call), call.input)


@operation("DeleteMessageBatch", service="sqs")
def delete_message_batch(call: Call) -> dict[str, Any]:
    row = queue_of(call)
    return _each(_entries(call), lambda entry: _delete(call, row, entry))


@operation("ChangeMessageVisibility", service="sqs")
def change_message_visibility(call: Call) -> None:
    _hide(call, queue_of(call), call.input)


@operation("ChangeMessageVisibilityBatch", service="sqs")
def change_message_visibility_batch(call: Call) -> dict[str, Any]:
    row = queue_of(call)
    return _each(_entries(call), lambda entry: _hide(call, row, entry))


def deliver(call: Call, queue_arn: str, body: str, attributes: dict[str, Any]) -> None:
    """Put a message of another service into a queue; raise QueueDoesNotExist."""
    row = call.parts.store.rows.by_arn(queue_arn)
    if row is None or row.kind != "sqs:Queue":
        raise no_such_queue()
    message = _message(call, row, {"MessageBody": body, "MessageAttributes": attributes})
    queue_messages.send(call.parts.store, row.arn, [message])


def _message(call: Call, row: Row, entry: dict[str, Any]) -> Message:
    body = entry["MessageBody"]
    attributes = entry.get("MessageAttributes") or {}
    if not body:
        raise ApiError(
            "The request must contain the parameter MessageBody.",
            code="MissingParameter",
            status=400,
        )
    if found := _NOT_TEXT.search(body):
        message = f"Invalid binary character '#x{ord(found[0]):X}' was found in the message body."
        raise ApiError(message, code="InvalidMessageContents", status=400)
    size = len(body.encode()) + sum(len(name) + _size(one) for name, one in attributes.items())
    if size > number(row, "MaximumMessageSize"):
        raise _invalid(
            "One or more parameters are invalid. Reason: Message must be shorter than "
            f"{number(row, 'MaximumMessageSize')} bytes."
        )
    delay = entry.get("DelaySeconds", number(row, "DelaySeconds"))
    if not 0 <= delay <= 900:
        raise _invalid(f"Value {delay} for parameter DelaySeconds is invalid.")
    now = call.parts.clock()
    return Message(
        message_id=str(uuid.uuid4()),
        body=body,
        attributes={name: _kept(one) for name, one in attributes.items()},
        sender=call.principal.user_id,
        sent=now,
        visible=now + delay,
        expires=now + number(row, "MessageRetentionPeriod"),
    )


def _sent(message: Message) -> dict[str, Any]:
    answer = {"MessageId": message.message_id, "MD5OfMessageBody": _md5(message.body.encode())}
    if message.attributes:
        answer["MD5OfMessageAttributes"] = attributes_md5(message.attributes)
    return answer


def _received(call: Call, message: Message) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "MessageId": message.message_id,
        "ReceiptHandle": message.receipt,
        "MD5OfBody": _md5(message.body.encode()),
        "Body": message.body,
    }
    every = {
        "SenderId": message.sender,
        "SentTimestamp": str(int(message.sent * 1000)),
        "ApproximateReceiveCount": str(message.received),
        "ApproximateFirstReceiveTimestamp": str(int(message.first_received * 1000)),
    }
    wanted = {
        *(call.input.get("AttributeNames") or ()),
        *(call.input.get("MessageSystemAttributeNames") or ()),
    }
    shown = {name: value for name, value in every.items() if "All" in wanted or name in wanted}
    if shown:
        answer["Attributes"] = shown
    names = call.input.get("MessageAttributeNames") or []
    attributes = {name: one for name, one in message.attributes.items() if _is_wanted(name, names)}
    if attributes:
        answer["MessageAttributes"] = {name: _told(one) for name, one in attributes.items()}
        answer["MD5OfMessageAttributes"] = attributes_md5(attributes)
    return answer


def _is_wanted(name: str, patterns: list[str]) -> bool:
    return any(
        pattern in ("All", ".*", name)
        or (pattern.endswith(".*") and name.startswith(pattern.removesuffix("*")))
        for pattern in patterns
    )


def _delete(call: Call, row: Row, entry: dict[str, Any]) -> dict[str, Any]:
    """A receipt that is not the last one deletes nothing, which SQS does not call an error."""
    queue_messages.delete_received(call.parts.store, row.arn, _receipt(entry))
    return {}


def _hide(call: Call, row: Row, entry: dict[str, Any]) -> dict[str, Any]:
    seconds = entry.get("VisibilityTimeout", 0)
    if not 0 <= seconds <= HIDDEN_SECONDS_MAX:
        raise _invalid(f"Value {seconds} for parameter VisibilityTimeout is invalid.")
    now = call.parts.clock()
    changed = queue_messages.hide(
        call.parts.store, row.arn, _receipt(entry), visible=now + seconds, now=now
    )
    if changed is None:
        message = "The input receipt handle is not the last one of a message in this queue."
        raise _invalid(message)
    if not changed:
        message = "The message is not in flight: its visibility timeout has passed."
        raise ApiError(message, code="MessageNotInflight", status=400)
    return {}


def _receipt(entry: dict[str, Any]) -> str:
    receipt = entry["ReceiptHandle"]
    if not re.fullmatch(r"[0-9a-f]{32}", receipt):
        message = f'The input receipt handle "{receipt[:128]}" is not a valid receipt handle.'
        raise ApiError(message, code="ReceiptHandleIsInvalid", status=400)
    return receipt


def _entries(call: Call) -> list[dict[str, Any]]:
    entries = call.input.get("Entries") or []
    if not entries:
        message = "There should be at least one entry in the request."
        raise ApiError(message, code="EmptyBatchRequest", status=400)
    if len(entries) > BATCH_MAX:
        message = (
            f"Maximum number of entries per request are {BATCH_MAX}. You have sent {len(entries)}."
        )
        raise ApiError(message, code="TooManyEntriesInBatchRequest", status=400)
    if len({entry["Id"] for entry in entries}) != len(entries):
        message = "Two or more batch entries in the request have the same Id."
        raise ApiError(message, code="BatchEntryIdsNotDistinct", status=400)
    for entry in entries:
        if not _ENTRY_ID.fullmatch(entry["Id"]):
            message = "A batch entry id can only contain alphanumeric characters, hyphens and underscores."
            raise ApiError(message, code="InvalidBatchEntryId", status=400)
    return entries


def _each(
    entries: list[dict[str, Any]], act: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Every entry succeeds or fails for itself."""
    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for entry in entries:
        try:
            done.append({"Id": entry["Id"], **act(entry)})
        except ApiError as problem:
            failed.append(
                {
                    "Id": entry["Id"],
                    "SenderFault": problem.status < 500,
                    "Code": problem.code,
                    "Message": problem.message,
                }
            )
    return {"Successful": done, "Failed": failed}


def _kept(attribute: dict[str, Any]) -> dict[str, str]:
    """An attribute as it rests in JSON: bytes in base64."""
    kept = {"DataType": attribute["DataType"]}
    if attribute["DataType"].startswith("Binary"):
        kept["Binary"] = base64.b64encode(attribute.get("BinaryValue", b"")).decode()
    else:
        kept["StringValue"] = attribute.get("StringValue", "")
    return kept


def _told(kept: dict[str, str]) -> dict[str, Any]:
    if "Binary" in kept:
        return {"DataType": kept["DataType"], "BinaryValue": base64.b64decode(kept["Binary"])}
    return dict(kept)


def _size(attribute: dict[str, Any]) -> int:
    value = attribute.get("BinaryValue") or (attribute.get("StringValue") or "").encode()
    return len(attribute["DataType"]) + len(value)


def attributes_md5(attributes: dict[str, dict[str, str]]) -> str:
    """SQS's digest of message attributes, which SDKs compare with their own."""
    text = b""
    for name in sorted(attributes):
        kept = attributes[name]
        binary = "Binary" in kept
        value = base64.b64decode(kept["Binary"]) if binary else kept["StringValue"].encode()
        for part in (name.encode(), kept["DataType"].encode()):
            text += struct.pack(">I", len(part)) + part
        text += (b"\x02" if binary else b"\x01") + struct.pack(">I", len(value)) + value
    return _md5(text)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _invalid(message: str) -> ApiError:
    return ApiError(message, code="InvalidParameterValue", status=400)
