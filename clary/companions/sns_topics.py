"""SNS topics: creating, describing and tagging them."""

from __future__ import annotations

import re
from typing import Any

import orjson

from clary.engine.call import Call, operation
from clary.model.arns import Arn, partition_of
from clary.model.errors import ApiError, NotImplementedException
from clary.store.rows import Query, Row, RowExists

KIND = "sns:Topic"
SUBSCRIPTION = "sns:Subscription"
PAGE = 100
TAGS_MAX = 50
ATTRIBUTES = (
    *("DisplayName", "Policy", "DeliveryPolicy", "KmsMasterKeyId", "TracingConfig"),
    *("SignatureVersion", "FifoTopic", "ContentBasedDeduplication"),
)

_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}")


def topic_of(call: Call, member: str = "TopicArn") -> Row:
    """The topic that a request names; raise InvalidParameter or NotFound."""
    text = call.input.get(member) or ""
    arn = Arn.parse(text)
    if arn is None or arn.service != "sns" or not arn.resource:
        raise invalid(f"{member} Reason: An ARN must have at least 6 elements, not {text[:256]}")
    row = call.parts.store.rows.get(
        KIND, arn.resource, account=call.account, region=arn.region or call.region
    )
    if row is None or arn.account != call.account:
        raise ApiError("Topic does not exist", code="NotFound", status=404)
    return row


def invalid(reason: str) -> ApiError:
    return ApiError(f"Invalid parameter: {reason}", code="InvalidParameter", status=400)


def subscriptions_of(call: Call, topic: Row) -> list[Row]:
    return call.parts.store.rows.every(
        SUBSCRIPTION, account=topic.account, region=topic.region, parent=topic.name
    )


@operation("CreateTopic", service="sns")
def create_topic(call: Call) -> dict[str, Any]:
    """Creating a topic that is there answers its ARN, as long as nothing is different."""
    name = call.input["Name"]
    attributes = dict(call.input.get("Attributes") or {})
    if name.endswith(".fifo") or attributes.get("FifoTopic") == "true":
        raise NotImplementedException("FIFO topics are not built yet in this version of Clary.")
    if not _NAME.fullmatch(name):
        raise invalid("Topic Name")
    for attribute, value in attributes.items():
        _check(attribute, value)
    arn = f"arn:{partition_of(call.region)}:sns:{call.region}:{call.account}:{name}"
    tags = [dict(tag) for tag in call.input.get("Tags") or []]
    row = Row(KIND, name, arn, call.account, call.region, document=attributes, tags=tags)
    try:
        call.parts.store.rows.insert(row)
    except RowExists as problem:
        known = call.parts.store.rows.get(KIND, name, account=call.account, region=call.region)
        if known is None or any(known.document.get(key) != attributes[key] for key in attributes):
            raise invalid(
                "Attributes Reason: Topic already exists with different attributes"
            ) from problem
    return {"TopicArn": arn}


@operation("DeleteTopic", service="sns")
def delete_topic(call: Call) -> None:
    """Deleting a topic that is gone is no error."""
    try:
        topic = topic_of(call)
    except ApiError as problem:
        if problem.code == "NotFound":
            return
        raise
    for subscription in subscriptions_of(call, topic):
        call.parts.store.rows.delete(subscription)
    call.parts.store.rows.delete(topic)


@operation("ListTopics", service="sns")
def list_topics(call: Call) -> dict[str, Any]:
    query = Query(KIND, call.account, call.region, sort_by="name", limit=10_000)
    rows, _ = call.parts.store.rows.page(query)
    return paged(call, "Topics", [{"TopicArn": row.arn} for row in rows], "TopicArn")


@operation("GetTopicAttributes", service="sns")
def get_topic_attributes(call: Call) -> dict[str, Any]:
    topic = topic_of(call)
    confirmed = [row.status == "Confirmed" for row in subscriptions_of(call, topic)]
    found = {
        "TopicArn": topic.arn,
        "Owner": topic.account,
        "DisplayName": "",
        "Policy": _policy(topic),
        "SubscriptionsConfirmed": str(sum(confirmed)),
        "SubscriptionsPending": str(len(confirmed) - sum(confirmed)),
        "SubscriptionsDeleted": "0",
    }
    return {"Attributes": found | topic.document}


@operation("SetTopicAttributes", service="sns")
def set_topic_attributes(call: Call) -> None:
    topic = topic_of(call)
    name, value = call.input["AttributeName"], call.input.get("AttributeValue") or ""
    _check(name, value)
    topic.document = {**topic.document, name: value}
    call.parts.store.rows.update(topic)


@operation("TagResource", service="sns")
def tag_resource(call: Call) -> None:
    topic = topic_of(call, "ResourceArn")
    tags = {tag["Key"]: tag["Value"] for tag in [*topic.tags, *call.input["Tags"]]}
    if len(tags) > TAGS_MAX:
        message = "Could not complete request: tag quota of per resource exceeded"
        raise ApiError(message, code="TagLimitExceeded", status=400)
    topic.tags = [{"Key": key, "Value": value} for key, value in tags.items()]
    call.parts.store.rows.update(topic)


@operation("UntagResource", service="sns")
def untag_resource(call: Call) -> None:
    topic = topic_of(call, "ResourceArn")
    gone = set(call.input["TagKeys"])
    topic.tags = [tag for tag in topic.tags if tag["Key"] not in gone]
    call.parts.store.rows.update(topic)


@operation("ListTagsForResource", service="sns")
def list_tags_for_resource(call: Call) -> dict[str, Any]:
    return {"Tags": topic_of(call, "ResourceArn").tags}


def paged(call: Call, member: str, items: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """One page of a list that is sorted by `key`; the token is the last one's."""
    token = call.input.get("NextToken") or ""
    rest = [item for item in sorted(items, key=lambda one: one[key]) if item[key] > token]
    answer: dict[str, Any] = {member: rest[:PAGE]}
    if len(rest) > PAGE:
        answer["NextToken"] = rest[PAGE - 1][key]
    return answer


def _check(attribute: str, value: str) -> None:
    if attribute not in ATTRIBUTES:
        raise invalid("AttributeName")
    if attribute in ("Policy", "DeliveryPolicy") and value:
        try:
            orjson.loads(value)
        except ValueError as problem:
            raise invalid(f"{attribute} Reason: {attribute} is not valid JSON") from problem


def _policy(topic: Row) -> str:
    """The policy that a topic has from the start: its owner may do everything."""
    statement = {
        "Sid": "__default_statement_ID",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": ["SNS:Publish", "SNS:Subscribe", "SNS:GetTopicAttributes"],
        "Resource": topic.arn,
        "Condition": {"StringEquals": {"AWS:SourceOwner": topic.account}},
    }
    document = {"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [statement]}
    return orjson.dumps(document).decode()
