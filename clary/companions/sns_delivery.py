"""What subscribers get to see: the documents of SNS, posted to HTTP endpoints of this machine."""

from __future__ import annotations

import http.client
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import orjson

from clary.store.rows import Row

log = logging.getLogger(__name__)

# A publisher waits for its subscribers: so short are the patience and the pause between tries.
POST_SECONDS = 2.0
TRIES = 2
PAUSE_SECONDS = 0.2
AT_ONCE_MAX = 16


def notification(
    topic: Row, row: Row, message_id: str, given: dict[str, Any], url: str
) -> dict[str, Any]:
    """The envelope of a message. It is not signed: no certificate of AWS could vouch for it."""
    document: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": message_id,
        "TopicArn": topic.arn,
        "Message": given["Message"],
        "Timestamp": _now(),
        "UnsubscribeURL": f"{url}/?Action=Unsubscribe&SubscriptionArn={quote(row.arn, safe='')}",
    }
    if given.get("Subject"):
        document["Subject"] = given["Subject"]
    if given.get("MessageAttributes"):
        document["MessageAttributes"] = given["MessageAttributes"]
    return document


def post_confirmation(topic: Row, row: Row, url: str) -> None:
    """Ask an HTTP endpoint to confirm; one that does not answer stays pending."""
    document = {
        "Type": "SubscriptionConfirmation",
        "MessageId": row.name,
        "Token": row.state["Token"],
        "TopicArn": topic.arn,
        "Message": (
            f"You have chosen to subscribe to the topic {topic.arn}.\n"
            "To confirm the subscription, visit the SubscribeURL included in this message."
        ),
        "SubscribeURL": url,
        "Timestamp": _now(),
    }
    problem = post(row, orjson.dumps(document), "SubscriptionConfirmation", topic, row.name)
    if problem:
        log.warning("the confirmation of %s could not be delivered: %s", row.arn, problem)


def post_each(jobs: Sequence[tuple[Row, bytes]], topic: Row, message_id: str) -> list[str]:
    """Post to several subscribers at once; for each, why it did not work, or nothing."""
    if not jobs:
        return []

    def one(job: tuple[Row, bytes]) -> str:
        return post(job[0], job[1], "Notification", topic, message_id)

    with ThreadPoolExecutor(min(AT_ONCE_MAX, len(jobs))) as pool:
        return list(pool.map(one, jobs))


def post(row: Row, body: bytes, kind: str, topic: Row, message_id: str) -> str:
    """Why one subscriber could not be told; empty if it was."""
    headers = {
        "content-type": "text/plain; charset=UTF-8",
        "user-agent": "Amazon Simple Notification Service Agent",
        "x-amz-sns-message-type": kind,
        "x-amz-sns-message-id": message_id,
        "x-amz-sns-topic-arn": topic.arn,
        "x-amz-sns-subscription-arn": row.arn,
    }
    if row.document["Attributes"].get("RawMessageDelivery") == "true" and kind == "Notification":
        headers["x-amz-sns-rawdelivery"] = "true"
    url = row.document["Endpoint"]
    problem = ""
    # No proxy, and no redirect to an address that could not be subscribed.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        request = urllib.request.Request(url, body, headers, method="POST")
        try:
            with opener.open(request, timeout=POST_SECONDS) as answer:
                answer.read(1024)
            return ""
        except urllib.error.HTTPError as refusal:
            problem = f"it answered {refusal.code}"
            refusal.close()
            if refusal.code < 500 and refusal.code != 429:
                return problem
        except (OSError, http.client.HTTPException) as trouble:
            problem = str(trouble)
    return problem


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _now() -> str:
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    return f"{stamp}.{int(now * 1000) % 1000:03d}Z"
