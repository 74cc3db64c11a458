"""SNS: topics, who subscribes to them, and what subscribers get to see."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from clary.companions import sns, sns_filter, sns_subscriptions, sns_topics, sqs, sqs_queues
from clary.engine.call import Call
from clary.identity.principals import Principal
from clary.model.errors import ApiError
from clary.settings import Settings
from clary.store.database import Store

ACCOUNT = "123456789012"
QUEUE = f"arn:aws:sqs:us-east-1:{ACCOUNT}:inbox"
HANDLERS = {
    member.answers: member
    for module in (sns, sns_topics, sns_subscriptions, sqs, sqs_queues)
    for member in vars(module).values()
    if hasattr(member, "answers")
}


class Topics:
    def __init__(self, home):
        self.settings = Settings(home=home)
        self.store = Store.open(f"sqlite:///{home}/clary.db")
        self.now = 1_780_000_000.0

    def __call__(self, name, service="sns", **asked):
        parts = SimpleNamespace(settings=self.settings, store=self.store, clock=lambda: self.now)
        who = Principal(ACCOUNT, "arn", "AIDAME", "user", "me")
        call = Call(service, name, asked, ACCOUNT, "us-east-1", who, "id", self.now, parts)
        return HANDLERS[service, name](call) or {}

    def fails(self, name, **asked):
        with pytest.raises(ApiError) as caught:
            self(name, **asked)
        return caught.value.code

    def inbox(self):
        answer = self(
            "ReceiveMessage", "sqs", QueueUrl="http://h/1/inbox", MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
        )  # fmt: skip
        return answer.get("Messages", [])


@pytest.fixture
def topics(tmp_path):
    topics = Topics(tmp_path)
    topics("CreateQueue", "sqs", QueueName="inbox")
    yield topics
    topics.store.close()


@pytest.fixture
def topic(topics):
    return topics("CreateTopic", Name="news")["TopicArn"]


@pytest.fixture
def subscriber():
    """A real HTTP server that keeps what it is sent and answers what it is told to."""
    kept, statuses = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.append((self.headers, body))
            self.send_response_only(statuses.pop(0) if statuses else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/hook"
    yield SimpleNamespace(url=url, kept=kept, statuses=statuses)
    server.shutdown()
    thread.join()
    server.server_close()


def subscribe(topics, topic, **attributes):
    return topics(
        "Subscribe", TopicArn=topic, Protocol="sqs", Endpoint=QUEUE, Attributes=attributes
    )["SubscriptionArn"]


def test_a_subscribed_queue_gets_the_envelope(topics, topic):
    subscribe(topics, topic)
    attributes = {"kind": {"DataType": "String", "StringValue": "x"}}
    sent = topics(
        "Publish", TopicArn=topic, Message="hello", Subject="s", MessageAttributes=attributes
    )
    (message,) = topics.inbox()
    found = json.loads(message["Body"])
    assert found["Type"] == "Notification"
    assert found["MessageId"] == sent["MessageId"]
    assert (found["TopicArn"], found["Message"], found["Subject"]) == (topic, "hello", "s")
    assert found["MessageAttributes"] == {"kind": {"Type": "String", "Value": "x"}}


def test_raw_delivery_is_the_message_alone(topics, topic):
    subscribe(topics, topic, RawMessageDelivery="true")
    attributes = {"kind": {"DataType": "String", "StringValue": "x"}}
    topics("Publish", TopicArn=topic, Message="raw", MessageAttributes=attributes)
    (message,) = topics.inbox()
    assert message["Body"] == "raw"
    assert message["MessageAttributes"] == attributes


def test_a_message_may_differ_by_protocol(topics, topic):
    subscribe(topics, topic, RawMessageDelivery="true")
    texts = json.dumps({"default": "d", "sqs": "for queues"})
    topics("Publish", TopicArn=topic, Message=texts, MessageStructure="json")
    assert topics.inbox()[0]["Body"] == "for queues"
    broken = {"TopicArn": topic, "Message": "{}", "MessageStructure": "json"}
    assert topics.fails("Publish", **broken) == "InvalidParameter"


def test_an_http_endpoint_hears_of_a_topic_after_it_confirmed(topics, topic, subscriber):
    arn = topics("Subscribe", TopicArn=topic, Protocol="http", Endpoint=subscriber.url)
    assert arn == {"SubscriptionArn": "pending confirmation"}
    headers, body = subscriber.kept.pop()
    asked = json.loads(body)
    assert headers["x-amz-sns-message-type"] == asked["Type"] == "SubscriptionConfirmation"
    assert asked["Token"] in asked["SubscribeURL"]
    topics("Publish", TopicArn=topic, Message="too early")
    assert subscriber.kept == []
    assert topics.fails("ConfirmSubscription", TopicArn=topic, Token="guess") == "InvalidParameter"
    confirmed = topics("ConfirmSubscription", TopicArn=topic, Token=asked["Token"])
    topics("Publish", TopicArn=topic, Message="now")
    headers, body = subscriber.kept.pop()
    assert headers["x-amz-sns-message-type"] == "Notification"
    assert headers["x-amz-sns-subscription-arn"] == confirmed["SubscriptionArn"]
    assert json.loads(body)["Message"] == "now"


def test_an_endpoint_that_fails_is_tried_again_and_then_given_up_to_the_dead_letter_queue(
    topics, topic, subscriber, caplog
):
    policy = json.dumps({"deadLetterTargetArn": QUEUE})
    topics(
        "Subscribe", TopicArn=topic, Protocol="http", Endpoint=subscriber.url,
        Attributes={"RedrivePolicy": policy},
    )  # fmt: skip
    token = json.loads(subscriber.kept.pop()[1])["Token"]
    topics("ConfirmSubscription", TopicArn=topic, Token=token)
    subscriber.statuses += [503]
    topics("Publish", TopicArn=topic, Message="second try")
    assert len(subscriber.kept) == 2
    assert topics.inbox() == []
    subscriber.statuses += [404]
    topics("Publish", TopicArn=topic, Message="lost")
    assert json.loads(topics.inbox()[0]["Body"])["Message"] == "lost"
    assert "it answered 404" in caplog.text


@pytest.mark.parametrize(
    ("protocol", "endpoint"),
    [
        ("http", "http://169.254.169.254/latest/meta-data"),
        ("http", "http://example.com/"),
        ("https", "http://127.0.0.1/"),
        ("http", "http://[::1"),
        ("http", "file:///etc/passwd"),
        ("email", "me@example.com"),
        ("sqs", "arn:aws:sqs:us-east-1:1:none"),
    ],
)
def test_only_this_machine_and_its_queues_are_told(topics, topic, protocol, endpoint):
    asked = {"TopicArn": topic, "Protocol": protocol, "Endpoint": endpoint}
    assert topics.fails("Subscribe", **asked) == "InvalidParameter"


def test_a_filter_policy_lets_through_what_it_names(topics, topic):
    policy = json.dumps({"kind": ["a", {"prefix": "b"}], "size": [{"numeric": [">", 1, "<=", 5]}]})
    subscribe(topics, topic, RawMessageDelivery="true", FilterPolicy=policy)
    for kind, size in (("a", "2"), ("bcd", "5"), ("a", "6"), ("x", "2")):
        attributes = {
            "kind": {"DataType": "String", "StringValue": kind},
            "size": {"DataType": "Number", "StringValue": size},
        }
        topics("Publish", TopicArn=topic, Message=kind + size, MessageAttributes=attributes)
    topics("Publish", TopicArn=topic, Message="without")
    assert [one["Body"] for one in topics.inbox()] == ["a2", "bcd5"]


@pytest.mark.parametrize(
    ("policy", "values", "wanted"),
    [
        ({"a": [{"exists": True}]}, {"a": 1}, True),
        ({"a": [{"exists": False}]}, {"a": 1}, False),
        ({"a": [{"exists": False}]}, {}, True),
        ({"a": [{"anything-but": ["x", "y"]}]}, {"a": "z"}, True),
        ({"a": [{"anything-but": ["x", "y"]}]}, {"a": "x"}, False),
        ({"a": [{"anything-but": {"prefix": "x"}}]}, {"a": "xy"}, False),
        ({"a": [{"suffix": ".csv"}]}, {"a": "f.csv"}, True),
        ({"a": [{"equals-ignore-case": "X"}]}, {"a": "x"}, True),
        ({"a": {"b": [1]}}, {"a": {"b": 1}}, True),
        ({"a": {"b": [1]}}, {"a": 1}, False),
        ({"a": [1]}, {"a": True}, False),
        ({"a": [1]}, {"a": [3, 1]}, True),
    ],
)
def test_filter_conditions(policy, values, wanted):
    assert sns_filter.wants(json.dumps(policy), values) is wanted


@pytest.mark.parametrize(
    "policy",
    ["{", "[]", '{"a": 1}', '{"a": []}', '{"a": [{"near": 1}]}', '{"a": [{"numeric": [">"]}]}'],
)
def test_a_malformed_filter_policy_is_refused(topics, topic, policy):
    arn = subscribe(topics, topic)
    asked = {"SubscriptionArn": arn, "AttributeName": "FilterPolicy", "AttributeValue": policy}
    assert topics.fails("SetSubscriptionAttributes", **asked) == "InvalidParameter"


def test_topics_and_subscriptions_are_described_listed_and_deleted(topics, topic):
    assert topics("CreateTopic", Name="news")["TopicArn"] == topic
    arn = subscribe(topics, topic)
    assert subscribe(topics, topic) == arn
    described = topics("GetTopicAttributes", TopicArn=topic)["Attributes"]
    assert (described["Owner"], described["SubscriptionsConfirmed"]) == (ACCOUNT, "1")
    assert topics("ListTopics")["Topics"] == [{"TopicArn": topic}]
    (listed,) = topics("ListSubscriptionsByTopic", TopicArn=topic)["Subscriptions"]
    assert listed == topics("ListSubscriptions")["Subscriptions"][0]
    assert (listed["SubscriptionArn"], listed["Endpoint"]) == (arn, QUEUE)
    topics(
        "SetSubscriptionAttributes", SubscriptionArn=arn, AttributeName="RawMessageDelivery",
        AttributeValue="true",
    )  # fmt: skip
    found = topics("GetSubscriptionAttributes", SubscriptionArn=arn)["Attributes"]
    assert (found["RawMessageDelivery"], found["PendingConfirmation"]) == ("true", "false")
    topics("Unsubscribe", SubscriptionArn=arn)
    topics("Publish", TopicArn=topic, Message="nobody")
    assert topics.inbox() == []
    topics("DeleteTopic", TopicArn=topic)
    topics("DeleteTopic", TopicArn=topic)
    assert topics.fails("Publish", TopicArn=topic, Message="x") == "NotFound"


def test_messages_that_sns_would_not_take_are_refused(topics, topic):
    for asked in (
        {"Message": ""},
        {"Message": "x" * 262_145},
        {"Message": "x", "Subject": "two\nlines"},
        {"Message": "x", "Subject": "s" * 101},
    ):
        assert topics.fails("Publish", TopicArn=topic, **asked) == "InvalidParameter"
    assert topics.fails("Publish", TopicArn="news", Message="x") == "InvalidParameter"


def test_a_batch_is_published_entry_by_entry(topics, topic):
    subscribe(topics, topic, RawMessageDelivery="true")
    entries = [{"Id": "1", "Message": "one"}, {"Id": "2", "Message": ""}]
    answer = topics("PublishBatch", TopicArn=topic, PublishBatchRequestEntries=entries)
    assert [one["Id"] for one in answer["Successful"]] == ["1"]
    assert [one["Code"] for one in answer["Failed"]] == ["InvalidParameter"]
    assert [one["Body"] for one in topics.inbox()] == ["one"]
