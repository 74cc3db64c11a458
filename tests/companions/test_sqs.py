"""SQS: what a client that sends, receives and deletes sees."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import pytest
from moto.sqs.models import Message as MotoMessage

from clary.companions import sqs, sqs_queues
from clary.engine.call import Call
from clary.identity.principals import Principal
from clary.model.errors import ApiError, NotImplementedException
from clary.settings import Settings
from clary.store.database import Store

ACCOUNT = "123456789012"
HANDLERS = {
    member.answers[1]: member
    for module in (sqs, sqs_queues)
    for member in vars(module).values()
    if hasattr(member, "answers")
}


class Queues:
    def __init__(self, home):
        self.settings = Settings(home=home)
        self.store = Store.open(f"sqlite:///{home}/clary.db")
        self.now = 1_780_000_000.0

    def __call__(self, name, region="us-east-1", **asked):
        parts = SimpleNamespace(settings=self.settings, store=self.store, clock=lambda: self.now)
        who = Principal(ACCOUNT, "arn", "AIDAME", "user", "me")
        call = Call("sqs", name, asked, ACCOUNT, region, who, "id", self.now, parts)
        return HANDLERS[name](call) or {}

    def fails(self, name, **asked):
        with pytest.raises(ApiError) as caught:
            self(name, **asked)
        return caught.value.code

    def receive(self, url, count=10, **options):
        answer = self("ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=count, **options)
        return answer.get("Messages", [])


@pytest.fixture
def queues(tmp_path):
    queues = Queues(tmp_path)
    yield queues
    queues.store.close()


@pytest.fixture
def url(queues):
    return queues("CreateQueue", QueueName="jobs", Attributes={"VisibilityTimeout": "20"})[
        "QueueUrl"
    ]


def test_a_message_is_received_once_and_gone_when_deleted(queues, url):
    sent = queues("SendMessage", QueueUrl=url, MessageBody="hello")
    assert sent["MD5OfMessageBody"] == "5d41402abc4b2a76b9719d911017c592"
    (message,) = queues.receive(url, AttributeNames=["All"])
    assert (message["Body"], message["MessageId"]) == ("hello", sent["MessageId"])
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert message["Attributes"]["SenderId"] == "AIDAME"
    assert queues.receive(url) == []
    queues("DeleteMessage", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    queues.now += 100
    assert queues.receive(url) == []


def test_a_message_that_nobody_deletes_comes_back_with_another_receipt(queues, url):
    queues("SendMessage", QueueUrl=url, MessageBody="again")
    (first,) = queues.receive(url)
    queues.now += 21
    (second,) = queues.receive(url, AttributeNames=["ApproximateReceiveCount"])
    assert second["Attributes"] == {"ApproximateReceiveCount": "2"}
    # The old receipt deletes nothing any more.
    queues("DeleteMessage", QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    queues.now += 21
    assert len(queues.receive(url)) == 1


def test_the_visibility_of_a_received_message_can_be_changed(queues, url):
    queues("SendMessage", QueueUrl=url, MessageBody="x")
    (message,) = queues.receive(url)
    handle = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}
    queues("ChangeMessageVisibility", VisibilityTimeout=100, **handle)
    queues.now += 50
    assert queues.receive(url) == []
    queues("ChangeMessageVisibility", VisibilityTimeout=0, **handle)
    assert len(queues.receive(url, VisibilityTimeout=5)) == 1
    queues.now += 6
    assert queues.fails("ChangeMessageVisibility", VisibilityTimeout=1, **handle) in (
        "InvalidParameterValue", "MessageNotInflight",
    )  # fmt: skip


def test_messages_come_oldest_first_and_delayed_ones_later(queues, url):
    for number in range(3):
        queues("SendMessage", QueueUrl=url, MessageBody=str(number))
    queues("SendMessage", QueueUrl=url, MessageBody="late", DelaySeconds=60)
    assert [one["Body"] for one in queues.receive(url)] == ["0", "1", "2"]
    counts = queues("GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessages"] == "0"
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "3"
    assert counts["ApproximateNumberOfMessagesDelayed"] == "1"
    queues.now += 61
    assert "late" in [one["Body"] for one in queues.receive(url)]


def test_message_attributes_keep_their_types_and_their_digest(queues, url):
    attributes = {
        "name": {"DataType": "String", "StringValue": "x"},
        "blob": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    sent = queues("SendMessage", QueueUrl=url, MessageBody="m", MessageAttributes=attributes)
    (message,) = queues.receive(url, MessageAttributeNames=["All"])
    assert message["MessageAttributes"] == attributes
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    # The documented form: lengths before name, type and value, and one byte for the kind of value.
    text = b"\0\0\0\4name\0\0\0\6String\1\0\0\0\1x"
    kept = {"name": {"DataType": "String", "StringValue": "x"}}
    assert sqs.attributes_md5(kept) == hashlib.md5(text).hexdigest()


def test_the_digest_of_attributes_is_moto_s_too():
    message = MotoMessage("id", "body")
    message.message_attributes = {
        "b": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        "a.long-name": {"DataType": "Number", "StringValue": "12"},
    }
    kept = {
        "b": {"DataType": "Binary", "Binary": "AP8="},
        "a.long-name": {"DataType": "Number", "StringValue": "12"},
    }
    assert sqs.attributes_md5(kept) == message.attribute_md5


def test_a_message_received_too_often_goes_to_the_dead_letter_queue(queues, url):
    dead = queues("CreateQueue", QueueName="dead")["QueueUrl"]
    policy = {"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:dead", "maxReceiveCount": 2}
    queues("SetQueueAttributes", QueueUrl=url, Attributes={"RedrivePolicy": json.dumps(policy)})
    queues("SendMessage", QueueUrl=url, MessageBody="poison")
    for _ in range(2):
        assert len(queues.receive(url)) == 1
        queues.now += 21
    assert queues.receive(url) == []
    assert [one["Body"] for one in queues.receive(dead)] == ["poison"]


def test_batches_succeed_and_fail_entry_by_entry(queues, url):
    entries = [
        {"Id": "a", "MessageBody": "1"},
        {"Id": "b", "MessageBody": "2", "DelaySeconds": 901},
    ]
    answer = queues("SendMessageBatch", QueueUrl=url, Entries=entries)
    assert [one["Id"] for one in answer["Successful"]] == ["a"]
    assert [(one["Id"], one["Code"]) for one in answer["Failed"]] == [
        ("b", "InvalidParameterValue")
    ]
    (message,) = queues.receive(url)
    gone = [
        {"Id": "x", "ReceiptHandle": message["ReceiptHandle"]},
        {"Id": "y", "ReceiptHandle": "?"},
    ]
    answer = queues("DeleteMessageBatch", QueueUrl=url, Entries=gone)
    assert [one["Id"] for one in answer["Successful"]] == ["x"]
    assert answer["Failed"][0]["Code"] == "ReceiptHandleIsInvalid"
    assert queues.fails("SendMessageBatch", QueueUrl=url, Entries=[]) == "EmptyBatchRequest"
    twice = [{"Id": "a", "MessageBody": "1"}, {"Id": "a", "MessageBody": "2"}]
    assert (
        queues.fails("SendMessageBatch", QueueUrl=url, Entries=twice) == "BatchEntryIdsNotDistinct"
    )


def test_old_messages_expire_and_a_purge_takes_all(queues, url):
    attributes = {"MessageRetentionPeriod": "60"}
    queues("SetQueueAttributes", QueueUrl=url, Attributes=attributes)
    queues("SendMessage", QueueUrl=url, MessageBody="old")
    queues.now += 61
    queues("SendMessage", QueueUrl=url, MessageBody="new")
    assert [one["Body"] for one in queues.receive(url, VisibilityTimeout=0)] == ["new"]
    queues("PurgeQueue", QueueUrl=url)
    assert queues.receive(url) == []


def test_queues_are_found_by_name_listed_by_prefix_and_deleted(queues, url):
    assert queues("GetQueueUrl", QueueName="jobs")["QueueUrl"] == url
    again = queues("CreateQueue", QueueName="jobs", Attributes={"VisibilityTimeout": "20"})
    assert again["QueueUrl"] == url
    differs = {"VisibilityTimeout": "21"}
    assert queues.fails("CreateQueue", QueueName="jobs", Attributes=differs) == "QueueNameExists"
    other = queues("CreateQueue", QueueName="other")["QueueUrl"]
    assert queues("ListQueues", QueueNamePrefix="o")["QueueUrls"] == [other]
    page = queues("ListQueues", MaxResults=1)
    assert page["QueueUrls"] == [url]
    assert queues("ListQueues", MaxResults=1, NextToken=page["NextToken"])["QueueUrls"] == [other]
    queues("DeleteQueue", QueueUrl=other)
    assert queues.fails("GetQueueUrl", QueueName="other") == "QueueDoesNotExist"
    assert queues.fails("SendMessage", QueueUrl=other, MessageBody="x") == "QueueDoesNotExist"


def test_a_queue_of_another_region_is_another_queue(queues, url):
    with pytest.raises(ApiError):
        queues("GetQueueUrl", region="eu-west-1", QueueName="jobs")


def test_tags_are_added_and_removed(queues, url):
    queues("TagQueue", QueueUrl=url, Tags={"a": "1", "b": "2"})
    queues("UntagQueue", QueueUrl=url, TagKeys=["a"])
    assert queues("ListQueueTags", QueueUrl=url)["Tags"] == {"b": "2"}


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"VisibilityTimeout": "43201"}, "InvalidAttributeValue"),
        ({"DelaySeconds": "x"}, "InvalidAttributeValue"),
        ({"Colour": "red"}, "InvalidAttributeName"),
        ({"RedrivePolicy": "{"}, "InvalidAttributeValue"),
        ({"RedrivePolicy": '{"deadLetterTargetArn": "arn:x", "maxReceiveCount": 1}'}, "InvalidAttributeValue"),
    ],
)  # fmt: skip
def test_attributes_that_sqs_would_not_take_are_refused(queues, attributes, code):
    assert queues.fails("CreateQueue", QueueName="q", Attributes=attributes) == code


def test_bodies_that_sqs_would_not_take_are_refused(queues, url):
    assert queues.fails("SendMessage", QueueUrl=url, MessageBody="") == "MissingParameter"
    assert queues.fails("SendMessage", QueueUrl=url, MessageBody="\x00") == "InvalidMessageContents"
    large = "x" * 262_145
    assert queues.fails("SendMessage", QueueUrl=url, MessageBody=large) == "InvalidParameterValue"
    with pytest.raises(NotImplementedException):
        queues("CreateQueue", QueueName="a.fifo")
