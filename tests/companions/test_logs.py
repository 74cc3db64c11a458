"""CloudWatch Logs: groups, streams, tails, searches and retention, as clients use them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clary.companions import logs, logs_groups
from clary.companions.logs_filter_pattern import InvalidPattern, compile_pattern
from clary.engine.call import Call
from clary.identity.principals import service_principal
from clary.model.errors import ApiError
from clary.settings import Settings
from clary.store.database import Store

ACCOUNT = "123456789012"
REGION = "us-east-1"
GROUP = "/aws/sagemaker/TrainingJobs"
NOW = 1_767_268_800.0
NOW_MS = int(NOW * 1000)
DAY_MS = 24 * 3600 * 1000
PRINCIPAL = service_principal(ACCOUNT, "tests")
HANDLERS = {
    member.answers[1]: member
    for module in (logs, logs_groups)
    for member in vars(module).values()
    if hasattr(member, "answers")
}


class Logs:
    def __init__(self, folder: Path) -> None:
        self.store = Store.open(f"sqlite:///{folder}/clary.db")
        self.now = NOW
        self.parts: Any = SimpleNamespace(
            settings=Settings(account=ACCOUNT), store=self.store, telemetry=self.store
        )

    def __call__(self, name: str, **asked: Any) -> dict[str, Any]:
        call = Call("logs", name, asked, ACCOUNT, REGION, PRINCIPAL, "id", self.now, self.parts)
        return HANDLERS[name](call) or {}

    def fails(self, name: str, **asked: Any) -> tuple[str, str]:
        with pytest.raises(ApiError) as caught:
            self(name, **asked)
        return caught.value.code, caught.value.message

    def stream(self, name: str, *times: int, group: str = GROUP) -> None:
        """A stream with an event at each time, in milliseconds from now."""
        self("CreateLogStream", logGroupName=group, logStreamName=name)
        if times:
            self.put(name, *[(time, f"{name} {time}") for time in times], group=group)

    def put(self, name: str, *lines: tuple[int, str], group: str = GROUP) -> dict[str, Any]:
        events = [{"timestamp": NOW_MS + time, "message": text} for time, text in lines]
        return self("PutLogEvents", logGroupName=group, logStreamName=name, logEvents=events)

    def tail(self, stream: str, **asked: Any) -> dict[str, Any]:
        return self("GetLogEvents", logGroupName=GROUP, logStreamName=stream, **asked)

    def search(self, **asked: Any) -> tuple[list[str], dict[str, Any]]:
        answer = self("FilterLogEvents", logGroupName=GROUP, **asked)
        return messages(answer), answer


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Logs]:
    made = Logs(tmp_path)
    made("CreateLogGroup", logGroupName=GROUP)
    yield made
    made.store.close()


def messages(answer: dict[str, Any]) -> list[str]:
    return [event["message"] for event in answer["events"]]


def test_what_does_not_exist_is_named_in_the_words_of_aws(service: Logs) -> None:
    missing = "ResourceNotFoundException"
    assert service.fails("DescribeLogStreams", logGroupName="/none") == (
        missing,
        "The specified log group does not exist.",
    )
    assert service.fails("GetLogEvents", logGroupName=GROUP, logStreamName="none") == (
        missing,
        "The specified log stream does not exist.",
    )
    assert service.fails("CreateLogGroup", logGroupName=GROUP) == (
        "ResourceAlreadyExistsException",
        "The specified log group already exists",
    )
    service.stream("s")
    assert service.fails("CreateLogStream", logGroupName=GROUP, logStreamName="s") == (
        "ResourceAlreadyExistsException",
        "The specified log stream already exists",
    )


def test_a_complete_page_of_streams_has_no_token(service: Logs) -> None:
    for number in range(3):
        service.stream(f"job/algo-{number}-1767268800")
    service.stream("other/algo-1")
    asked = {"logGroupName": GROUP, "logStreamNamePrefix": "job/", "orderBy": "LogStreamName"}
    answer = service("DescribeLogStreams", **asked, limit=3)
    assert [one["logStreamName"] for one in answer["logStreams"]] == [
        f"job/algo-{number}-1767268800" for number in range(3)
    ]
    assert "nextToken" not in answer
    first = service("DescribeLogStreams", **asked, limit=2)
    second = service("DescribeLogStreams", **asked, limit=2, nextToken=first["nextToken"])
    assert [one["logStreamName"] for one in second["logStreams"]] == ["job/algo-2-1767268800"]
    assert "nextToken" not in second


def test_streams_can_be_ordered_by_their_last_event(service: Logs) -> None:
    service.stream("old", -5_000)
    service.stream("new", -1_000)
    answer = service(
        "DescribeLogStreams", logGroupName=GROUP, orderBy="LastEventTime", descending=True
    )
    assert [one["logStreamName"] for one in answer["logStreams"]] == ["new", "old"]
    newest = answer["logStreams"][0]
    assert newest["lastEventTimestamp"] == newest["firstEventTimestamp"] == NOW_MS - 1_000
    assert newest["lastIngestionTime"] == NOW_MS
    code, _ = service.fails(
        "DescribeLogStreams",
        logGroupName=GROUP,
        orderBy="LastEventTime",
        logStreamNamePrefix="x",
    )
    assert code == "InvalidParameterException"


def test_a_tail_from_the_head_ends_with_an_empty_page_and_the_same_token(service: Logs) -> None:
    service.stream("s", -3, -2, -1)
    first = service.tail("s", startFromHead=True, limit=2)
    assert messages(first) == ["s -3", "s -2"]
    second = service.tail("s", startFromHead=True, nextToken=first["nextForwardToken"])
    assert messages(second) == ["s -1"]
    assert second["nextForwardToken"] != first["nextForwardToken"]
    end = service.tail("s", startFromHead=True, nextToken=second["nextForwardToken"])
    assert messages(end) == []
    assert end["nextForwardToken"] == second["nextForwardToken"]
    service.put("s", (0, "late"))
    later = service.tail("s", startFromHead=True, nextToken=end["nextForwardToken"])
    assert messages(later) == ["late"]


def test_a_tail_of_an_empty_stream_can_be_resumed(service: Logs) -> None:
    service.stream("s")
    empty = service.tail("s", startFromHead=True)
    assert empty["events"] == []
    service.put("s", (0, "first"))
    resumed = service.tail("s", startFromHead=True, nextToken=empty["nextForwardToken"])
    assert messages(resumed) == ["first"]


def test_without_a_head_the_newest_events_come_and_older_ones_backward(service: Logs) -> None:
    service.stream("s", *range(-10, 0))
    newest = service.tail("s", limit=4)
    assert messages(newest) == ["s -4", "s -3", "s -2", "s -1"]
    before = service.tail("s", limit=4, nextToken=newest["nextBackwardToken"])
    assert messages(before) == ["s -8", "s -7", "s -6", "s -5"]
    forward = service.tail("s", limit=2, nextToken=before["nextForwardToken"])
    assert messages(forward) == ["s -4", "s -3"]
    first = service.tail("s", nextToken=before["nextBackwardToken"])
    assert messages(first) == ["s -10", "s -9"]
    end = service.tail("s", nextToken=first["nextBackwardToken"])
    assert end["events"] == []
    assert end["nextBackwardToken"] == first["nextBackwardToken"]


def test_order_at_equal_timestamps_is_stable_across_batches(service: Logs) -> None:
    service.stream("s")
    for batch in range(3):
        service.put("s", *[(0, f"{batch}.{line}") for line in range(4)])
    wanted = [f"{batch}.{line}" for batch in range(3) for line in range(4)]
    assert messages(service.tail("s", startFromHead=True)) == wanted
    assert messages(service.tail("s", startFromHead=True, startTime=NOW_MS)) == wanted
    assert messages(service.tail("s")) == wanted


def test_start_is_inclusive_and_end_exclusive_in_a_tail(service: Logs) -> None:
    service.stream("s", -3, -2, -1)
    answer = service.tail("s", startFromHead=True, startTime=NOW_MS - 3, endTime=NOW_MS - 1)
    assert messages(answer) == ["s -3", "s -2"]


def test_a_page_of_a_tail_holds_a_mebibyte(service: Logs) -> None:
    service.stream("s")
    for time in range(-5, 0):
        service.put("s", (time, "x" * 400_000))
    first = service.tail("s", startFromHead=True)
    assert len(first["events"]) == 2
    rest = service.tail("s", startFromHead=True, nextToken=first["nextForwardToken"])
    assert len(rest["events"]) == 2


@pytest.mark.parametrize("token", ["f/1", "x", "f/" + "9" * 56 + "/s", "n/0"])
def test_a_token_that_is_not_ours_is_rejected(service: Logs, token: str) -> None:
    service.stream("s")
    asked = {"logGroupName": GROUP, "logStreamName": "s", "nextToken": token}
    assert service.fails("GetLogEvents", **asked) == (
        "InvalidParameterException",
        "The specified nextToken is invalid.",
    )
    code, _ = service.fails("FilterLogEvents", logGroupName=GROUP, nextToken=token)
    assert code == "InvalidParameterException"


def test_a_batch_must_be_in_order_and_within_the_limits(service: Logs) -> None:
    service.stream("s")

    def refused(*lines: tuple[int, str]) -> str:
        with pytest.raises(ApiError) as caught:
            service.put("s", *lines)
        assert caught.value.code == "InvalidParameterException"
        return caught.value.message

    assert refused((-1, "b"), (-2, "a")) == (
        "Log events in a single PutLogEvents request must be in chronological order."
    )
    assert refused((0, "x" * 1_048_551)) == (
        "Upload too large: 1048577 bytes exceeds limit of 1048576"
    )
    assert "24 hours" in refused((-DAY_MS - 1, "a"), (0, "b"))
    assert "10000" in refused(*[(0, "x")] * 10_001)
    assert service.tail("s")["events"] == []


def test_events_too_old_or_too_new_are_rejected_and_the_others_kept(service: Logs) -> None:
    service.stream("s")
    hour = 3600 * 1000
    answer = service.put("s", (-15 * DAY_MS, "a"), (-1, "b"), (0, "c"), (3 * hour, "d"))
    assert answer["rejectedLogEventsInfo"] == {
        "tooOldLogEventEndIndex": 1,
        "tooNewLogEventStartIndex": 3,
    }
    assert messages(service.tail("s")) == ["b", "c"]


def test_sequence_tokens_are_ignored_and_grow(service: Logs) -> None:
    service.stream("s")
    first = service.put("s", (0, "a"))["nextSequenceToken"]
    second = service(
        "PutLogEvents",
        logGroupName=GROUP,
        logStreamName="s",
        sequenceToken="wrong",
        logEvents=[{"timestamp": NOW_MS, "message": "b"}],
    )["nextSequenceToken"]
    assert len(first) == 56
    assert int(second) == int(first) + 1


def test_a_search_interleaves_streams_by_time(service: Logs) -> None:
    service.stream("b", -30, -10)
    service.stream("a", -40, -20, -10)
    found, _ = service.search()
    assert found == ["a -40", "b -30", "a -20", "b -10", "a -10"]


def test_every_page_with_events_has_a_token_and_the_last_page_neither(service: Logs) -> None:
    service.stream("AllTraffic/i-1", -3, -2)
    service.stream("AllTraffic/i-2", -3, -1)
    service.stream("other", -2)
    seen: list[str] = []
    asked: dict[str, Any] = {"logStreamNamePrefix": "AllTraffic/", "limit": 2}
    found, answer = service.search(**asked)
    while "nextToken" in answer:
        assert found
        seen += found
        found, answer = service.search(**asked, nextToken=answer["nextToken"])
    assert answer["events"] == []
    assert seen == [
        "AllTraffic/i-1 -3",
        "AllTraffic/i-2 -3",
        "AllTraffic/i-1 -2",
        "AllTraffic/i-2 -1",
    ]


def test_the_last_token_of_a_search_finds_what_came_later(service: Logs) -> None:
    service.stream("s", -3)
    _, answer = service.search()
    service.put("s", (0, "later"))
    assert service.search(nextToken=answer["nextToken"])[0] == ["later"]


def test_a_search_can_begin_with_the_newest(service: Logs) -> None:
    service.stream("a", -40, -20)
    service.stream("b", -30, -20)
    asked: dict[str, Any] = {"startFromHead": False, "startTime": NOW_MS - 100, "limit": 1}
    seen: list[str] = []
    found, answer = service.search(**asked)
    while found:
        seen += found
        found, answer = service.search(**asked, nextToken=answer["nextToken"])
    assert seen == ["b -20", "a -20", "b -30", "a -40"]


def test_a_search_is_limited_by_names_times_and_pattern(service: Logs) -> None:
    service.stream("a", -4, -3, -2)
    service.stream("b", -3)
    window = {"startTime": NOW_MS - 3, "endTime": NOW_MS - 2}
    assert service.search(logStreamNames=["a"], **window)[0] == ["a -3", "a -2"]
    assert service.search(filterPattern="?-3 ?-4", logStreamNames=["a"])[0] == ["a -4", "a -3"]
    both = {"logStreamNames": ["a"], "logStreamNamePrefix": "a"}
    assert service.fails("FilterLogEvents", logGroupName=GROUP, **both)[0] == (
        "InvalidParameterException"
    )
    missing = service.fails("FilterLogEvents", logGroupName=GROUP, logStreamNames=["zz"])
    assert missing[1] == "The specified log stream does not exist."


def test_a_found_event_has_its_own_id(service: Logs) -> None:
    service.stream("a", -1, -1)
    service.stream("b", -1)
    events = service.search()[1]["events"]
    assert len({event["eventId"] for event in events}) == 3
    assert events[0]["logStreamName"] == "a"
    assert events[0]["ingestionTime"] == NOW_MS


@pytest.mark.parametrize(
    ("pattern", "message", "matches"),
    [
        ("", "anything", True),
        ("ERROR", "[ERROR] failed", True),
        ("ERROR", "[error] failed", False),
        ("ERROR timeout", "timeout: ERROR", True),
        ("ERROR timeout", "ERROR", False),
        ('"epoch 1 "', "epoch 1 done", True),
        ('"epoch 1 "', "epoch 11 done", False),
        ("?loss ?accuracy", "accuracy=1", True),
        ("?loss ?accuracy", "speed=1", False),
        ("loss -nan", "loss=nan", False),
        ("loss -nan", "loss=1", True),
        ('{ $.level = "ERROR" }', '{"level": "ERROR"}', True),
        ('{ $.level = "ERR*" }', '{"level": "ERROR"}', True),
        ('{ $.level != "ERROR" }', '{"level": "INFO"}', True),
        ('{ $.level = "ERROR" }', "level ERROR", False),
        ("{ $.took > 10 && $.job.name = train }", '{"took": 11, "job": {"name": "train"}}', True),
        ("{ ($.a = 1 || $.a = 2) && $.b[1] = 3 }", '{"a": 2.0, "b": [0, 3]}', True),
        ("{ $.a = 1 || $.a = 2 }", '{"a": 3}', False),
        ("{ $.user IS NULL }", '{"user": null}', True),
        ("{ $.user NOT EXISTS }", "{}", True),
        ("{ $.ok IS TRUE }", '{"ok": 1}', False),
    ],
)
def test_filter_patterns_match_as_documented(pattern: str, message: str, matches: bool) -> None:
    assert compile_pattern(pattern)(message) is matches


@pytest.mark.parametrize(
    "pattern",
    [
        "{ $.a = 1",
        "{ $.a }",
        "{ a = 1 }",
        '"open',
        "{ " + "(" * 500 + " }",
        "{ $.a > x }",
        "[a, b]",
    ],
)
def test_a_filter_pattern_that_cannot_be_read_is_refused(service: Logs, pattern: str) -> None:
    with pytest.raises(InvalidPattern):
        compile_pattern(pattern)
    code, text = service.fails("FilterLogEvents", logGroupName=GROUP, filterPattern=pattern)
    assert code == "InvalidParameterException"
    assert text.startswith("Invalid filter pattern: ")


def test_retention_hides_old_events_at_once_and_purge_removes_them(service: Logs) -> None:
    service.stream("s", -2 * DAY_MS - 1)
    service.put("s", (-1_000, "new"))
    service("PutRetentionPolicy", logGroupName=GROUP, retentionInDays=1)
    assert messages(service.tail("s", startFromHead=True)) == ["new"]
    assert service.search()[0] == ["new"]
    assert service.put("s", (-DAY_MS - 1, "expired"))["rejectedLogEventsInfo"] == {
        "expiredLogEventEndIndex": 1
    }
    assert logs_groups.purge(service.parts, NOW) == 1
    service("DeleteRetentionPolicy", logGroupName=GROUP)
    assert messages(service.tail("s", startFromHead=True)) == ["new"]
    code, text = service.fails("PutRetentionPolicy", logGroupName=GROUP, retentionInDays=2)
    assert code == "InvalidParameterException"
    assert "[1, 3, 5, 7, 14, 30" in text


def test_groups_are_described_by_prefix_in_pages(service: Logs) -> None:
    for number in range(3):
        service("CreateLogGroup", logGroupName=f"/aws/sagemaker/Endpoints/e{number}")
    service("PutRetentionPolicy", logGroupName=GROUP, retentionInDays=30)
    service.stream("s")
    service.put("s", (0, "four"))
    asked: dict[str, Any] = {"logGroupNamePrefix": "/aws/sagemaker/Endpoints/", "limit": 2}
    first = service("DescribeLogGroups", **asked)
    second = service("DescribeLogGroups", **asked, nextToken=first["nextToken"])
    names = [one["logGroupName"] for one in first["logGroups"] + second["logGroups"]]
    assert names == [f"/aws/sagemaker/Endpoints/e{number}" for number in range(3)]
    assert "nextToken" not in second
    group = service("DescribeLogGroups", logGroupNamePrefix=GROUP)["logGroups"][0]
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}"
    assert group == {
        "logGroupName": GROUP,
        "creationTime": NOW_MS,
        "retentionInDays": 30,
        "metricFilterCount": 0,
        "arn": f"{arn}:*",
        "logGroupArn": arn,
        "storedBytes": 30,
        "logGroupClass": "STANDARD",
    }
    found = service("ListLogGroups", logGroupNamePattern="^/aws/sagemaker/Tr")["logGroups"]
    assert [one["logGroupName"] for one in found] == [GROUP]


def test_a_group_can_be_named_by_its_arn(service: Logs) -> None:
    service.stream("s", -1)
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}"
    for identifier in (arn, f"{arn}:*", GROUP):
        answer = service("GetLogEvents", logGroupIdentifier=identifier, logStreamName="s")
        assert messages(answer) == ["s -1"]
    assert service.fails("DescribeLogStreams")[0] == "InvalidParameterException"


def test_a_deleted_group_takes_its_streams_along(service: Logs) -> None:
    service.stream("s", -1)
    service("DeleteLogGroup", logGroupName=GROUP)
    assert service.fails("DeleteLogGroup", logGroupName=GROUP)[0] == "ResourceNotFoundException"
    service("CreateLogGroup", logGroupName=GROUP)
    assert service("DescribeLogStreams", logGroupName=GROUP)["logStreams"] == []


def test_a_deleted_stream_is_gone(service: Logs) -> None:
    service.stream("s", -1)
    service("DeleteLogStream", logGroupName=GROUP, logStreamName="s")
    assert service.fails("DeleteLogStream", logGroupName=GROUP, logStreamName="s")[1] == (
        "The specified log stream does not exist."
    )


def test_a_protected_group_is_not_deleted(service: Logs) -> None:
    service("CreateLogGroup", logGroupName="kept", deletionProtectionEnabled=True)
    assert service.fails("DeleteLogGroup", logGroupName="kept")[0] == "ValidationException"


def test_groups_have_tags_by_name_and_by_arn(service: Logs) -> None:
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}"
    service("TagLogGroup", logGroupName=GROUP, tags={"team": "a", "stage": "dev"})
    service("TagResource", resourceArn=arn, tags={"team": "b"})
    assert service("ListTagsLogGroup", logGroupName=GROUP)["tags"] == {"team": "b", "stage": "dev"}
    service("UntagResource", resourceArn=f"{arn}:*", tagKeys=["stage"])
    assert service("ListTagsForResource", resourceArn=arn)["tags"] == {"team": "b"}
    service("UntagLogGroup", logGroupName=GROUP, tags=["team"])
    assert service("ListTagsLogGroup", logGroupName=GROUP)["tags"] == {}
    too_many = {f"key{number}": "" for number in range(51)}
    assert service.fails("TagResource", resourceArn=arn, tags=too_many)[0] == "TooManyTagsException"


def test_a_group_has_no_subscription_filters_yet(service: Logs) -> None:
    assert service("DescribeSubscriptionFilters", logGroupName=GROUP) == {"subscriptionFilters": []}
