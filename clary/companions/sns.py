"""SNS messages: a topic's subscribers are told at once, while the publisher waits."""

from __future__ import annotations

import base64
import logging
import uuid
from typing import Any

import orjson

from clary.companions import sqs
from clary.companions.sns_delivery import notification, post_each
from clary.companions.sns_filter import wants
from clary.companions.sns_topics import invalid, subscriptions_of, topic_of
from clary.engine.call import Call, operation
from clary.model.errors import ApiError
from clary.store.rows import Row

log = logging.getLogger(__name__)

MESSAGE_BYTES_MAX = 262_144
SUBJECT_CHARACTERS_MAX = 100
BATCH_MAX = 10


@operation("Publish", service="sns")
def publish(call: Call) -> dict[str, Any]:
    if call.input.get("PhoneNumber"):
        raise invalid("PhoneNumber Reason: Clary sends no text messages")
    member = "TopicArn" if call.input.get("TopicArn") else "TargetArn"
    return {"MessageId": _publish(call, topic_of(call, member), call.input)}


@operation("PublishBatch", service="sns")
def publish_batch(call: Call) -> dict[str, Any]:
    topic = topic_of(call)
    entries = call.input["PublishBatchRequestEntries"]
    if not entries:
        raise ApiError("The batch request is empty.", code="EmptyBatchRequest", status=400)
    if len(entries) > BATCH_MAX:
        message = f"The batch request contains more than {BATCH_MAX} entries."
        raise ApiError(message, code="TooManyEntriesInBatchRequest", status=400)
    if len({entry["Id"] for entry in entries}) != len(entries):
        message = "Two or more batch entries in the request have the same Id."
        raise ApiError(message, code="BatchEntryIdsNotDistinct", status=400)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for entry in entries:
        try:
            done.append({"Id": entry["Id"], "MessageId": _publish(call, topic, entry)})
        except ApiError as problem:
            failed.append(
                {
                    "Id": entry["Id"],
                    "Code": problem.code,
                    "Message": problem.message,
                    "SenderFault": problem.status < 500,
                }
            )
    return {"Successful": done, "Failed": failed}


def _publish(call: Call, topic: Row, given: dict[str, Any]) -> str:
    texts = _texts(given)
    message_id = str(uuid.uuid4())
    attributes = given.get("MessageAttributes") or {}
    posts: list[tuple[Row, bytes]] = []
    for row in subscriptions_of(call, topic):
        if row.status != "Confirmed" or not _is_wanted(row, given["Message"], attributes):
            continue
        protocol = row.document["Protocol"]
        told = {
            "Message": texts.get(protocol, texts["default"]),
            "Subject": given.get("Subject"),
            "MessageAttributes": _shown(attributes),
        }
        raw = row.document["Attributes"].get("RawMessageDelivery") == "true"
        url = call.parts.settings.endpoint_url
        body = (
            told["Message"].encode()
            if raw
            else orjson.dumps(notification(topic, row, message_id, told, url))
        )
        if protocol == "sqs":
            _deliver(call, row, body, attributes if raw else {})
        else:
            posts.append((row, body))
    for (row, body), problem in zip(posts, post_each(posts, topic, message_id), strict=True):
        if problem:
            _give_up(call, row, body, problem)
    return message_id


def _deliver(call: Call, row: Row, body: bytes, attributes: dict[str, Any]) -> None:
    try:
        sqs.deliver(call, row.document["Endpoint"], body.decode(), attributes)
    except ApiError as problem:
        _give_up(call, row, body, problem.message)


def _give_up(call: Call, row: Row, body: bytes, problem: str) -> None:
    """What a subscriber could not be told goes to its dead-letter queue, if it has one."""
    log.warning("a message could not be delivered to %s: %s", row.document["Endpoint"], problem)
    policy = row.document["Attributes"].get("RedrivePolicy")
    if not policy:
        return
    try:
        sqs.deliver(call, orjson.loads(policy)["deadLetterTargetArn"], body.decode(), {})
    except ApiError as trouble:
        log.error("the dead-letter queue of %s is unusable: %s", row.arn, trouble.message)


def _texts(given: dict[str, Any]) -> dict[str, str]:
    """The message for each protocol, under "default" for all others."""
    message = given["Message"]
    if not message:
        raise invalid("Empty message")
    if len(message.encode()) > MESSAGE_BYTES_MAX:
        raise invalid("Message too long")
    subject = given.get("Subject")
    if subject is not None and not (
        1 <= len(subject) <= SUBJECT_CHARACTERS_MAX and subject.isprintable()
    ):
        raise invalid("Subject")
    if not given.get("MessageStructure"):
        return {"default": message}
    if given["MessageStructure"] != "json":
        raise invalid("MessageStructure")
    try:
        texts = orjson.loads(message)
    except ValueError as problem:
        raise invalid("Message Structure - JSON message body failed to parse") from problem
    if not isinstance(texts, dict) or not isinstance(texts.get("default"), str):
        raise invalid("Message Structure - No default entry in JSON message body")
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _is_wanted(row: Row, message: str, attributes: dict[str, Any]) -> bool:
    policy = row.document["Attributes"].get("FilterPolicy", "")
    if not policy:
        return True
    if row.document["Attributes"].get("FilterPolicyScope") == "MessageBody":
        try:
            body = orjson.loads(message)
        except ValueError:
            return False
        return isinstance(body, dict) and wants(policy, body)
    return wants(policy, {name: _value(one) for name, one in attributes.items()})


def _value(attribute: dict[str, Any]) -> Any:
    kind, text = attribute["DataType"], attribute.get("StringValue", "")
    try:
        if kind == "String.Array":
            return orjson.loads(text)
        if kind.startswith("Number"):
            return orjson.loads(text)
    except ValueError:
        return text
    return text


def _shown(attributes: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {
        name: {
            "Type": one["DataType"],
            "Value": base64.b64encode(one["BinaryValue"]).decode()
            if "BinaryValue" in one
            else one.get("StringValue", ""),
        }
        for name, one in attributes.items()
    }
