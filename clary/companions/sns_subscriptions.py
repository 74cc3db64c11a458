"""SNS subscriptions: who hears of a topic. Queues at once, HTTP endpoints once they confirmed."""

from __future__ import annotations

import secrets
import uuid
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from clary.companions.sns_delivery import post_confirmation
from clary.companions.sns_filter import check_filter
from clary.companions.sns_topics import SUBSCRIPTION, invalid, paged, subscriptions_of, topic_of
from clary.engine.call import Call, operation
from clary.model.arns import Arn
from clary.model.errors import ApiError
from clary.store.rows import Query, Row

PENDING, CONFIRMED = "Pending", "Confirmed"
ATTRIBUTES = ("RawMessageDelivery", "FilterPolicy", "FilterPolicyScope", "RedrivePolicy")
NOT_CONFIRMED = "PendingConfirmation"
SUBSCRIPTIONS_MAX = 1_000  # of one topic


@operation("Subscribe", service="sns")
def subscribe(call: Call) -> dict[str, Any]:
    topic = topic_of(call)
    protocol, endpoint = call.input["Protocol"], call.input.get("Endpoint") or ""
    _check_endpoint(call, protocol, endpoint)
    attributes = dict(call.input.get("Attributes") or {})
    for name, value in attributes.items():
        _check(name, value)
    others = subscriptions_of(call, topic)
    for known in others:
        if (known.document["Protocol"], known.document["Endpoint"]) == (protocol, endpoint):
            return {"SubscriptionArn": _arn_told(call, known)}
    if len(others) >= SUBSCRIPTIONS_MAX:
        raise ApiError("Subscription limit", code="SubscriptionLimitExceeded", status=403)
    number = str(uuid.uuid4())
    row = Row(
        SUBSCRIPTION,
        number,
        f"{topic.arn}:{number}",
        topic.account,
        topic.region,
        parent=topic.name,
        status=CONFIRMED if protocol == "sqs" else PENDING,
        document={"Protocol": protocol, "Endpoint": endpoint, "Attributes": attributes},
        state={"Token": secrets.token_hex(64)},
    )
    call.parts.store.rows.insert(row)
    if row.status == PENDING:
        post_confirmation(topic, row, _confirmation_url(call, topic, row))
    return {"SubscriptionArn": _arn_told(call, row)}


@operation("ConfirmSubscription", service="sns")
def confirm_subscription(call: Call) -> dict[str, Any]:
    topic = topic_of(call)
    for row in subscriptions_of(call, topic):
        if secrets.compare_digest(row.state["Token"].encode(), call.input["Token"].encode()):
            row.status = CONFIRMED
            call.parts.store.rows.update(row)
            return {"SubscriptionArn": row.arn}
    raise invalid("Token")


@operation("Unsubscribe", service="sns")
def unsubscribe(call: Call) -> None:
    call.parts.store.rows.delete(subscription_of(call))


@operation("ListSubscriptions", service="sns")
def list_subscriptions(call: Call) -> dict[str, Any]:
    query = Query(SUBSCRIPTION, call.account, call.region, sort_by="name", limit=10_000)
    rows, _ = call.parts.store.rows.page(query)
    return paged(call, "Subscriptions", [_told(row) for row in rows], "SubscriptionArn")


@operation("ListSubscriptionsByTopic", service="sns")
def list_subscriptions_by_topic(call: Call) -> dict[str, Any]:
    rows = subscriptions_of(call, topic_of(call))
    return paged(call, "Subscriptions", [_told(row) for row in rows], "SubscriptionArn")


@operation("GetSubscriptionAttributes", service="sns")
def get_subscription_attributes(call: Call) -> dict[str, Any]:
    row = subscription_of(call)
    return {
        "Attributes": {
            "SubscriptionArn": row.arn,
            "TopicArn": row.arn.rpartition(":")[0],
            "Owner": row.account,
            "Protocol": row.document["Protocol"],
            "Endpoint": row.document["Endpoint"],
            "PendingConfirmation": str(row.status == PENDING).lower(),
            "ConfirmationWasAuthenticated": str(row.status == CONFIRMED).lower(),
            "RawMessageDelivery": "false",
            **row.document["Attributes"],
        }
    }


@operation("SetSubscriptionAttributes", service="sns")
def set_subscription_attributes(call: Call) -> None:
    row = subscription_of(call)
    name, value = call.input["AttributeName"], call.input.get("AttributeValue") or ""
    _check(name, value)
    row.document = {**row.document, "Attributes": {**row.document["Attributes"], name: value}}
    call.parts.store.rows.update(row)


def subscription_of(call: Call) -> Row:
    arn = call.input["SubscriptionArn"]
    if Arn.parse(arn) is None:
        raise invalid("SubscriptionArn Reason: An ARN must have at least 6 elements")
    row = call.parts.store.rows.by_arn(arn)
    if row is None or row.kind != SUBSCRIPTION or row.account != call.account:
        raise ApiError("Subscription does not exist", code="NotFound", status=404)
    return row


def _told(row: Row) -> dict[str, Any]:
    return {
        "SubscriptionArn": row.arn if row.status == CONFIRMED else NOT_CONFIRMED,
        "Owner": row.account,
        "Protocol": row.document["Protocol"],
        "Endpoint": row.document["Endpoint"],
        "TopicArn": row.arn.rpartition(":")[0],
    }


def _arn_told(call: Call, row: Row) -> str:
    """SNS tells the ARN of a pending subscription only to those who ask for it."""
    if row.status == CONFIRMED or call.input.get("ReturnSubscriptionArn"):
        return row.arn
    return "pending confirmation"


def _confirmation_url(call: Call, topic: Row, row: Row) -> str:
    return (
        f"{call.parts.settings.endpoint_url}/?Action=ConfirmSubscription"
        f"&TopicArn={quote(topic.arn, safe='')}&Token={row.state['Token']}"
    )


def _check_endpoint(call: Call, protocol: str, endpoint: str) -> None:
    if protocol == "sqs":
        queue = call.parts.store.rows.by_arn(endpoint)
        if queue is None or queue.kind != "sqs:Queue":
            raise invalid("SQS endpoint ARN")
    elif protocol in ("http", "https"):
        _check_url(protocol, endpoint)
    else:
        raise invalid(
            f"Protocol Reason: Clary delivers to sqs, http and https, and not to {protocol[:32]}"
        )


def _check_url(protocol: str, endpoint: str) -> None:
    """Whoever may subscribe must not make the server call what only the server can reach."""
    try:
        found = urlsplit(endpoint)
        host, _ = found.hostname or "", found.port
    except ValueError as problem:
        raise invalid("Endpoint") from problem
    if found.scheme != protocol or not host:
        raise invalid("Endpoint must match the specified protocol")
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local:
        raise invalid("Endpoint Reason: Clary delivers to addresses of this machine only")


def _check(name: str, value: str) -> None:
    if name not in ATTRIBUTES:
        raise invalid("AttributeName")
    if name == "RawMessageDelivery" and value not in ("true", "false"):
        raise invalid("Attributes Reason: RawMessageDelivery: Invalid value")
    if name == "FilterPolicyScope" and value not in ("MessageAttributes", "MessageBody"):
        raise invalid("FilterPolicyScope")
    if name == "FilterPolicy" and value:
        check_filter(value)
    if name == "RedrivePolicy" and value:
        try:
            orjson.loads(value)["deadLetterTargetArn"]
        except (ValueError, KeyError, TypeError) as problem:
            raise invalid("RedrivePolicy: failed to parse JSON") from problem
