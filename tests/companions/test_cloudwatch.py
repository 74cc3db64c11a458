"""CloudWatch: metric data in all forms, statistics, expressions and alarms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clary.companions import cloudwatch, cloudwatch_alarm_history, cloudwatch_alarms
from clary.companions.cloudwatch_alarm_states import evaluate
from clary.engine.call import Call
from clary.identity.principals import Principal
from clary.model.errors import ApiError
from clary.settings import Settings
from clary.store.database import Store

ACCOUNT = "123456789012"
REGION = "us-east-1"
NOON = 1_767_268_800
NAMESPACE = "/aws/sagemaker/TrainingJobs"
JOB = [{"Name": "TrainingJobName", "Value": "job-1"}]
PLAIN = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
PRINCIPAL = Principal(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/admin", "AIDA", "user", "admin")
HANDLERS = {
    member.answers[1]: member
    for module in (cloudwatch, cloudwatch_alarms, cloudwatch_alarm_history)
    for member in vars(module).values()
    if hasattr(member, "answers") and member.__module__ == module.__name__
}


def at(seconds: float) -> datetime:
    """A moment in seconds from noon."""
    return datetime.fromtimestamp(NOON + seconds, UTC)


class CloudWatch:
    def __init__(self, folder: Path) -> None:
        self.store = Store.open(f"sqlite:///{folder}/clary.db")
        self.now = float(NOON)
        self.called: list[tuple[str, str, dict[str, Any]]] = []
        self.parts: Any = SimpleNamespace(
            settings=Settings(account=ACCOUNT),
            store=self.store,
            telemetry=self.store,
            call=self.record,
        )

    def record(self, service: str, operation: str, request: dict[str, Any], **_: Any) -> dict:
        self.called.append((service, operation, request))
        return {}

    def __call__(self, name: str, **asked: Any) -> dict[str, Any]:
        call = Call(
            "cloudwatch", name, asked, ACCOUNT, REGION, PRINCIPAL, "id", self.now, self.parts
        )
        return HANDLERS[name](call) or {}

    def fails(self, name: str, **asked: Any) -> tuple[str, str]:
        with pytest.raises(ApiError) as caught:
            self(name, **asked)
        return caught.value.code, caught.value.message

    def put(self, *data: dict[str, Any], namespace: str = NAMESPACE) -> None:
        self("PutMetricData", Namespace=namespace, MetricData=list(data))

    def values(self, name: str, *points: tuple[float, float], dimensions: Any = JOB) -> None:
        """Values of a high-resolution metric at seconds from noon."""
        data = [
            {
                "MetricName": name,
                "Dimensions": dimensions,
                "Timestamp": at(when),
                "Value": float(value),
                "StorageResolution": 1,
            }
            for when, value in points
        ]
        self.put(*data)

    def statistics(self, name: str, *wanted: str, **more: Any) -> list[dict[str, Any]]:
        asked: dict[str, Any] = {
            "Namespace": NAMESPACE,
            "MetricName": name,
            "Dimensions": JOB,
            "StartTime": at(-3600),
            "EndTime": at(3600),
            "Period": 60,
        }
        plain = [one for one in wanted if one in PLAIN]
        extended = [one for one in wanted if one not in plain]
        asked |= {"Statistics": plain} if plain else {"ExtendedStatistics": extended}
        return self("GetMetricStatistics", **asked | more)["Datapoints"]

    def data(self, *queries: dict[str, Any], **more: Any) -> dict[str, Any]:
        asked = {"StartTime": at(-600), "EndTime": at(600), "ScanBy": "TimestampAscending"}
        return self("GetMetricData", MetricDataQueries=list(queries), **asked | more)


def stat(identity: str, name: str, kind: str = "Average", period: int = 60) -> dict[str, Any]:
    metric = {"Namespace": NAMESPACE, "MetricName": name, "Dimensions": JOB}
    return {"Id": identity, "MetricStat": {"Metric": metric, "Period": period, "Stat": kind}}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[CloudWatch]:
    made = CloudWatch(tmp_path)
    yield made
    made.store.close()


def test_statistics_are_per_period_with_the_time_it_begins(service: CloudWatch) -> None:
    service.values("loss", (5, 4), (35, 2), (65, 1))
    found = service.statistics("loss", "Average", "Sum", "Minimum", "Maximum", "SampleCount")
    assert found == [
        {
            "Timestamp": NOON,
            "Unit": "None",
            "Average": 3.0,
            "Sum": 6.0,
            "Minimum": 2.0,
            "Maximum": 4.0,
            "SampleCount": 2.0,
        },
        {
            "Timestamp": NOON + 60,
            "Unit": "None",
            "Average": 1.0,
            "Sum": 1.0,
            "Minimum": 1.0,
            "Maximum": 1.0,
            "SampleCount": 1.0,
        },
    ]


def test_periods_begin_at_the_start_rounded_down_to_a_minute(service: CloudWatch) -> None:
    service.values("loss", (70, 1), (350, 3))
    found = service.statistics("loss", "Sum", StartTime=at(65), Period=300)
    assert [(one["Timestamp"] - NOON, one["Sum"]) for one in found] == [(60, 4.0)]


def test_values_can_come_counted_and_as_statistics(service: CloudWatch) -> None:
    service.put(
        {"MetricName": "t", "Dimensions": JOB, "Timestamp": at(0), "Values": [1.0, 5.0]},
        {
            "MetricName": "t",
            "Dimensions": JOB,
            "Timestamp": at(1),
            "Values": [2.0, 4.0],
            "Counts": [3.0, 1.0],
        },
        {
            "MetricName": "t",
            "Dimensions": JOB,
            "Timestamp": at(2),
            "StatisticValues": {"SampleCount": 2.0, "Sum": 9.0, "Minimum": 0.5, "Maximum": 8.5},
        },
    )
    (found,) = service.statistics("t", "SampleCount", "Sum", "Minimum", "Maximum")
    assert found["SampleCount"] == 8.0
    assert found["Sum"] == 25.0
    assert (found["Minimum"], found["Maximum"]) == (0.5, 8.5)


def test_percentiles_and_trimmed_means_come_from_the_values(service: CloudWatch) -> None:
    service.values("t", *[(second, second) for second in range(1, 51)])
    (found,) = service.statistics("t", "p50", "p99", "tm90", "TM(10%:90%)", "ts50", "wm80", "IQM")
    extended = found["ExtendedStatistics"]
    assert extended["p50"] == 25.5
    assert extended["p99"] == pytest.approx(49.51)
    assert extended["tm90"] == pytest.approx(23.0)
    assert extended["TM(10%:90%)"] == pytest.approx(25.5)
    assert extended["ts50"] == sum(range(1, 26))
    assert extended["wm80"] == pytest.approx((sum(range(1, 41)) + 10 * 40) / 50)
    assert service.fails(
        "GetMetricStatistics",
        Namespace=NAMESPACE,
        MetricName="t",
        StartTime=at(0),
        EndTime=at(60),
        Period=60,
        ExtendedStatistics=["p101"],
    )[0] == ("InvalidParameterValue")


def test_data_of_different_units_are_different_datapoints(service: CloudWatch) -> None:
    for unit in ("Seconds", "Milliseconds"):
        service.put(
            {"MetricName": "t", "Dimensions": JOB, "Timestamp": at(0), "Value": 1.0, "Unit": unit}
        )
    found = service.statistics("t", "Sum")
    assert [one["Unit"] for one in found] == ["Milliseconds", "Seconds"]
    found = service.statistics("t", "Sum", Unit="Seconds")
    assert [one["Unit"] for one in found] == ["Seconds"]
    together = service.data(stat("m1", "t", "Sum"))["MetricDataResults"][0]
    assert together["Values"] == [2.0]


def test_a_metric_that_nobody_put_has_no_datapoints(service: CloudWatch) -> None:
    assert service.statistics("none", "Average") == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Value": float("nan")}, "InvalidParameterValue"),
        ({"Value": 1e200}, "InvalidParameterValue"),
        ({"Value": None}, "MissingParameter"),
        ({"Values": [1.0]}, "InvalidParameterCombination"),
        ({"Value": None, "Values": [1.0], "Counts": [1.0, 2.0]}, "InvalidParameterValue"),
        ({"Timestamp": at(-15 * 24 * 3600)}, "InvalidParameterValue"),
        ({"Timestamp": at(3 * 3600)}, "InvalidParameterValue"),
        ({"StorageResolution": 5}, "InvalidParameterValue"),
        ({"Dimensions": [{"Name": "d", "Value": " "}]}, "InvalidParameterValue"),
    ],
)
def test_a_datum_that_makes_no_sense_is_refused(
    service: CloudWatch, change: dict[str, Any], code: str
) -> None:
    datum = {"MetricName": "t", "Timestamp": at(0), "Value": 1.0} | change
    assert service.fails("PutMetricData", Namespace="mine", MetricData=[datum])[0] == code
    assert service("ListMetrics")["Metrics"] == []


def test_only_aws_writes_into_namespaces_of_aws(service: CloudWatch) -> None:
    datum = {"MetricName": "t", "Value": 1.0}
    assert service.fails("PutMetricData", Namespace="AWS/SageMaker", MetricData=[datum]) == (
        "InvalidParameterValue",
        "The value AWS/ for parameter Namespace is invalid.",
    )


def test_a_request_takes_a_thousand_datums(service: CloudWatch) -> None:
    datum = {"MetricName": "t", "Dimensions": JOB, "Timestamp": at(0), "Value": 1.0}
    service.put(*[datum] * 1_000)
    assert service.statistics("t", "SampleCount")[0]["SampleCount"] == 1_000
    code, _ = service.fails("PutMetricData", Namespace="x", MetricData=[datum] * 1_001)
    assert code == "InvalidParameterValue"


def test_too_many_datapoints_are_refused_with_the_remedy(service: CloudWatch) -> None:
    code, message = service.fails(
        "GetMetricStatistics",
        Namespace=NAMESPACE,
        MetricName="t",
        StartTime=at(-60 * 1441),
        EndTime=at(0),
        Period=60,
        Statistics=["Sum"],
    )
    assert code == "InvalidParameterCombination"
    assert message.startswith("You have requested up to 1,441 datapoints, which exceeds the limit")


def test_metrics_are_listed_with_their_dimensions(service: CloudWatch) -> None:
    service.values("loss", (0, 1))
    service.values("accuracy", (0, 1), dimensions=[{"Name": "Host", "Value": "h"}])
    assert service("ListMetrics", Namespace=NAMESPACE, MetricName="loss")["Metrics"] == [
        {"Namespace": NAMESPACE, "MetricName": "loss", "Dimensions": JOB}
    ]
    found = service("ListMetrics", Dimensions=[{"Name": "Host"}])["Metrics"]
    assert [one["MetricName"] for one in found] == ["accuracy"]
    service.now += 4 * 3600
    assert service("ListMetrics", RecentlyActive="PT3H")["Metrics"] == []
    assert len(service("ListMetrics")["Metrics"]) == 2
    assert service.fails("ListMetrics", NextToken="x")[0] == "InvalidParameterValue"


def test_metric_data_come_newest_first_unless_asked_otherwise(service: CloudWatch) -> None:
    service.values("loss", (0, 3), (60, 2), (120, 1))
    answer = service.data(stat("m1", "loss"), ScanBy="TimestampDescending")
    assert answer["MetricDataResults"] == [
        {
            "Id": "m1",
            "Label": "loss",
            "Timestamps": [NOON + 120, NOON + 60, NOON],
            "Values": [1.0, 2.0, 3.0],
            "StatusCode": "Complete",
        }
    ]
    assert "NextToken" not in answer


def test_metric_data_come_in_pages(service: CloudWatch) -> None:
    service.values("loss", *[(60 * minute, minute) for minute in range(5)])
    service.values("rate", (0, 1))
    queries = (stat("m1", "loss"), stat("m2", "rate"))
    values: list[float] = []
    answer = service.data(*queries, MaxDatapoints=4)
    codes = [answer["MetricDataResults"][0]["StatusCode"]]
    while True:
        values += answer["MetricDataResults"][0]["Values"]
        if "NextToken" not in answer:
            break
        answer = service.data(*queries, MaxDatapoints=4, NextToken=answer["NextToken"])
        codes.append(answer["MetricDataResults"][0]["StatusCode"])
    assert values == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert codes == ["PartialData", "PartialData", "Complete"]


@pytest.mark.parametrize(
    ("expression", "points"),
    [
        ("m1 + m2", {0: 12.0, 60: 24.0}),
        ("100 * m1 / m2", {0: 20.0, 60: 20.0}),
        ("-m1 ^ 2 + (m2 - 1)", {0: 13.0, 60: 35.0}),
        ("SUM([m1, m2])", {0: 12.0, 60: 24.0, 120: 6.0}),
        ("AVG(METRICS())", {0: 6.0, 60: 12.0, 120: 6.0}),
        ('MAX(METRICS("m2"))', {0: 10.0, 60: 20.0}),
        ("m1 - MIN(m1)", {0: 0.0, 60: 2.0, 120: 4.0}),
        ("SUM(m1)", {0: 12.0, 60: 12.0, 120: 12.0}),
        ("m1 / (m1 - 4)", {0: -1.0, 120: 3.0}),
        ("m1 > 2", {0: 0.0, 60: 1.0, 120: 1.0}),
        ("IF(m1 > 2 AND m1 < 6, m1, 0)", {0: 0.0, 60: 4.0, 120: 0.0}),
        ("RATE(m1)", {60: 2 / 60, 120: 2 / 60}),
        ("DIFF(m1)", {60: 2.0, 120: 2.0}),
        ("RUNNING_SUM(m1)", {0: 2.0, 60: 6.0, 120: 12.0}),
        ("m1 * PERIOD(m1)", {0: 120.0, 60: 240.0, 120: 360.0}),
    ],
)
def test_expressions_are_worked_out(
    service: CloudWatch, expression: str, points: dict[int, float]
) -> None:
    service.values("loss", (0, 2), (60, 4), (120, 6))
    service.values("rate", (0, 10), (60, 20))
    queries = [stat("m1", "loss") | {"ReturnData": False}, stat("m2", "rate", "Sum")]
    queries[1]["ReturnData"] = False
    answer = service.data(*queries, {"Id": "e1", "Expression": expression, "Label": "result"})
    (result,) = answer["MetricDataResults"]
    assert result["Label"] == "result"
    times = [when - NOON for when in result["Timestamps"]]
    assert dict(zip(times, result["Values"], strict=True)) == pytest.approx(points)


@pytest.mark.parametrize(
    ("by", "values"),
    [("0", [1.0, 0.0, 0.0, 4.0, 0.0]), ("REPEAT", [1, 1, 1, 4, 4]), ("LINEAR", [1, 2, 3, 4, 4])],
)
def test_gaps_can_be_filled(service: CloudWatch, by: str, values: list[float]) -> None:
    service.values("loss", (0, 1), (180, 4))
    query = {"Id": "e1", "Expression": f"FILL(m1, {by})"}
    more = {"StartTime": at(0), "EndTime": at(300)}
    answer = service.data(stat("m1", "loss"), query, **more)
    assert answer["MetricDataResults"][1]["Values"] == pytest.approx(values)


def test_an_expression_can_use_another(service: CloudWatch) -> None:
    service.values("loss", (0, 2))
    answer = service.data(
        {"Id": "e2", "Expression": "e1 * 2"},
        {"Id": "e1", "Expression": "m1 + 1"},
        stat("m1", "loss"),
    )
    assert answer["MetricDataResults"][0]["Values"] == [6.0]


@pytest.mark.parametrize(
    "queries",
    [
        [{"Id": "e1", "Expression": "m9 + 1"}],
        [{"Id": "e1", "Expression": "e1 + 1"}],
        [{"Id": "e1", "Expression": "e2"}, {"Id": "e2", "Expression": "e1"}],
        [{"Id": "e1", "Expression": "1 +"}],
        [{"Id": "e1", "Expression": "(" * 5_000}],
        [{"Id": "e1", "Expression": "SEARCH('x', 'Sum')"}],
        [{"Id": "E1", "Expression": "1"}],
        [{"Id": "e1"}],
        [stat("m1", "loss", "Median")],
        [stat("m1", "loss", period=7)],
        [stat("m1", "loss"), stat("m1", "rate")],
        [stat("m1", "loss") | {"ReturnData": False}],
    ],
)
def test_queries_that_make_no_sense_are_refused(
    service: CloudWatch, queries: list[dict[str, Any]]
) -> None:
    with pytest.raises(ApiError) as caught:
        service.data(*queries)
    assert caught.value.code == "ValidationError"


# ---- alarms -------------------------------------------------------------------------------------

ALARM: dict[str, Any] = {
    "AlarmName": "errors",
    "Namespace": NAMESPACE,
    "MetricName": "errors",
    "Dimensions": JOB,
    "Statistic": "Sum",
    "Period": 60,
    "EvaluationPeriods": 1,
    "Threshold": 1.0,
    "ComparisonOperator": "GreaterThanOrEqualToThreshold",
}


def state_of(service: CloudWatch, name: str = "errors") -> str:
    (found,) = service("DescribeAlarms", AlarmNames=[name])["MetricAlarms"]
    return found["StateValue"]


@pytest.mark.parametrize(
    ("points", "needed", "states"),
    [
        # The tables of "How alarm states are evaluated when data is missing": the newest point is
        # the last; states are for missing, ignore, breaching, notBreaching ("=" keeps the state).
        ("0-X-X", 3, "OK OK OK OK"),
        ("----0", 3, "OK OK OK OK"),
        ("-----", 3, "INSUFFICIENT_DATA = ALARM OK"),
        ("0XX-X", 3, "ALARM ALARM ALARM ALARM"),
        ("--X--", 3, "ALARM = ALARM OK"),
        ("0-X-X", 2, "ALARM ALARM ALARM ALARM"),
        ("00X0X", 2, "ALARM ALARM ALARM ALARM"),
        ("0-X--", 2, "OK OK ALARM OK"),
        ("----0", 2, "OK OK ALARM OK"),
        ("---X-", 2, "ALARM = ALARM OK"),
    ],
)
def test_missing_datapoints_are_treated_as_documented(
    points: str, needed: int, states: str
) -> None:
    alarm = {
        "Period": 60,
        "EvaluationPeriods": 3,
        "DatapointsToAlarm": needed,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "StateValue": "kept",
    }
    values = {"0": 0.0, "X": 5.0}
    data = [
        (float(NOON - 60 * (5 - index)), values[one])
        for index, one in enumerate(points)
        if one != "-"
    ]
    treatments = ("missing", "ignore", "breaching", "notBreaching")
    found = [
        evaluate(alarm | {"TreatMissingData": one}, data, NOON + 30).value for one in treatments
    ]
    assert found == [one.replace("=", "kept") for one in states.split()]


@pytest.mark.parametrize(
    ("comparison", "breaching"),
    [
        ("GreaterThanOrEqualToThreshold", [False, True, True]),
        ("GreaterThanThreshold", [False, False, True]),
        ("LessThanThreshold", [True, False, False]),
        ("LessThanOrEqualToThreshold", [True, True, False]),
    ],
)
def test_every_comparison_is_its_own(comparison: str, breaching: list[bool]) -> None:
    alarm = {
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 2.0,
        "ComparisonOperator": comparison,
    }
    found = [evaluate(alarm, [(NOON - 60, value)], NOON + 30) for value in (1.0, 2.0, 3.0)]
    assert [state.value == "ALARM" for state in found] == breaching


def test_the_reason_names_datapoints_and_threshold() -> None:
    alarm = {
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 2,
        "ComparisonOperator": "GreaterThanThreshold",
        "Statistic": "Sum",
    }
    state = evaluate(alarm, [(NOON - 60, 3.0)], NOON + 30)
    assert state.reason == (
        "Threshold Crossed: 1 out of the last 1 datapoints [3.0 (01/01/26 11:59:00)] was greater "
        "than the threshold (2.0) (minimum 1 datapoint for OK -> ALARM transition)."
    )
    assert state.data["recentDatapoints"] == [3.0]
    state = evaluate(alarm, [(NOON - 60, 1.0)], NOON + 30)
    assert state.reason == (
        "Threshold Crossed: 1 datapoint [1.0 (01/01/26 11:59:00)] was not greater than the "
        "threshold (2.0)."
    )
    assert evaluate(alarm, [], NOON + 30).reason == "Insufficient Data: 1 datapoint was unknown."


def test_the_period_that_runs_does_not_count() -> None:
    alarm = ALARM | {"EvaluationPeriods": 1}
    assert evaluate(alarm, [(NOON, 9.0)], NOON + 59).value == "INSUFFICIENT_DATA"
    assert evaluate(alarm, [(NOON, 9.0)], NOON + 71).value == "ALARM"


def test_an_alarm_follows_its_metric_and_calls_its_actions(service: CloudWatch) -> None:
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:pager"
    service("PutMetricAlarm", **ALARM, AlarmActions=[topic], TreatMissingData="notBreaching")
    assert state_of(service) == "OK"
    service.values("errors", (5, 1), (10, 1))
    service.now = NOON + 90.0
    assert cloudwatch_alarms.evaluate_all(service.parts, service.now) == 1
    assert state_of(service) == "ALARM"
    ((name, operation, request),) = service.called
    assert (name, operation, request["TopicArn"]) == ("sns", "Publish", topic)
    message = json.loads(request["Message"])
    assert (message["NewStateValue"], message["OldStateValue"]) == ("ALARM", "OK")
    assert message["Trigger"]["MetricName"] == "errors"
    service.now = NOON + 600.0
    assert state_of(service) == "OK"
    assert len(service.called) == 1
    items = service("DescribeAlarmHistory", AlarmName="errors")["AlarmHistoryItems"]
    assert [one["HistorySummary"] for one in items] == [
        "Alarm updated from ALARM to OK",
        f"Successfully executed action {topic}",
        "Alarm updated from OK to ALARM",
        "Alarm updated from INSUFFICIENT_DATA to OK",
        'Alarm "errors" created',
    ]
    assert items[1]["HistoryItemType"] == "Action"
    first = service("DescribeAlarmHistory", AlarmName="errors", MaxRecords=2)
    rest = service("DescribeAlarmHistory", AlarmName="errors", NextToken=first["NextToken"])
    assert len(rest["AlarmHistoryItems"]) == 3


def test_an_action_that_fails_is_in_the_history(service: CloudWatch) -> None:
    service("PutMetricAlarm", **ALARM, OKActions=["arn:aws:swf:x:y:z"], AlarmActions=[])
    service("SetAlarmState", AlarmName="errors", StateValue="OK", StateReason="try")
    items = service("DescribeAlarmHistory", HistoryItemType="Action")["AlarmHistoryItems"]
    assert [one["HistorySummary"] for one in items] == [
        "Failed to execute action arn:aws:swf:x:y:z. Received error: "
        '"Clary cannot call arn:aws:swf:x:y:z."'
    ]


def test_a_state_that_is_set_holds_until_the_next_evaluation(service: CloudWatch) -> None:
    service("PutMetricAlarm", **ALARM, TreatMissingData="notBreaching", ActionsEnabled=False)
    reason = {"StateReason": "testing", "StateReasonData": '{"a": 1}'}
    service("SetAlarmState", AlarmName="errors", StateValue="ALARM", **reason)
    service.now += 30
    (found,) = service("DescribeAlarms", StateValue="ALARM")["MetricAlarms"]
    assert (found["StateReason"], found["StateReasonData"]) == ("testing", '{"a":1}')
    service.now += 31
    assert state_of(service) == "OK"
    assert service.fails("SetAlarmState", AlarmName="x", StateValue="OK", StateReason="")[0] == (
        "ResourceNotFound"
    )


def test_an_alarm_reads_back_as_it_was_put(service: CloudWatch) -> None:
    service("PutMetricAlarm", **ALARM, Tags=[{"Key": "team", "Value": "a"}])
    (found,) = service("DescribeAlarms")["MetricAlarms"]
    for member, value in ALARM.items():
        assert found[member] == value
    assert found["AlarmArn"] == f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:errors"
    assert found["ActionsEnabled"] is True
    assert found["StateValue"] == "INSUFFICIENT_DATA"
    assert found["StateReason"] == "Unchecked: Initial alarm creation"
    assert "TreatMissingData" not in found


def test_an_update_replaces_the_configuration_and_keeps_state_and_tags(
    service: CloudWatch,
) -> None:
    tags = [{"Key": "team", "Value": "a"}]
    service("PutMetricAlarm", **ALARM, AlarmDescription="old", Tags=tags, ActionsEnabled=False)
    service("SetAlarmState", AlarmName="errors", StateValue="OK", StateReason="set")
    service("PutMetricAlarm", **ALARM | {"Threshold": 7.0, "TreatMissingData": "ignore"})
    (found,) = service("DescribeAlarms")["MetricAlarms"]
    assert (found["Threshold"], found["StateValue"]) == (7.0, "OK")
    assert "AlarmDescription" not in found
    assert service("ListTagsForResource", ResourceARN=found["AlarmArn"])["Tags"] == tags


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Period": 45}, "ValidationError"),
        ({"DatapointsToAlarm": 2}, "ValidationError"),
        ({"TreatMissingData": "maybe"}, "ValidationError"),
        ({"EvaluationPeriods": 1441}, "ValidationError"),
        ({"ExtendedStatistic": "p90"}, "InvalidParameterCombination"),
        ({"Statistic": None, "ExtendedStatistic": "median"}, "ValidationError"),
        ({"MetricName": None}, "InvalidParameterCombination"),
        ({"Threshold": None}, "MissingParameter"),
        ({"ComparisonOperator": "LessThanLowerThreshold"}, "ValidationError"),
        ({"ThresholdMetricId": "ad1", "Threshold": None}, "ValidationError"),
    ],
)
def test_an_alarm_that_could_never_work_is_refused(
    service: CloudWatch, change: dict[str, Any], code: str
) -> None:
    assert service.fails("PutMetricAlarm", **ALARM | change)[0] == code


def test_an_alarm_can_watch_an_expression(service: CloudWatch) -> None:
    source = {"Namespace", "MetricName", "Dimensions", "Statistic", "Period"}
    alarm = {member: value for member, value in ALARM.items() if member not in source}
    queries = [
        stat("m1", "errors", "Sum") | {"ReturnData": False},
        stat("m2", "calls", "Sum") | {"ReturnData": False},
        {"Id": "e1", "Expression": "100 * m1 / m2"},
    ]
    service("PutMetricAlarm", **alarm | {"Metrics": queries, "Threshold": 10.0})
    service.values("errors", (0, 1))
    service.values("calls", (0, 5))
    service.now = NOON + 90.0
    assert state_of(service) == "ALARM"


def test_alarms_are_found_by_name_prefix_action_and_metric(service: CloudWatch) -> None:
    for name in ("a-1", "a-2", "b-1"):
        action = f"arn:aws:sns:{REGION}:{ACCOUNT}:{name}"
        service("PutMetricAlarm", **ALARM | {"AlarmName": name}, AlarmActions=[action])

    def names(**asked: Any) -> list[str]:
        return [one["AlarmName"] for one in service("DescribeAlarms", **asked)["MetricAlarms"]]

    assert names(AlarmNamePrefix="a-") == ["a-1", "a-2"]
    assert names(AlarmNames=["b-1", "zz"]) == ["b-1"]
    assert names(ActionPrefix=f"arn:aws:sns:{REGION}:{ACCOUNT}:b") == ["b-1"]
    assert names(AlarmTypes=["CompositeAlarm"]) == []
    first = service("DescribeAlarms", MaxRecords=2)
    assert [one["AlarmName"] for one in first["MetricAlarms"]] == ["a-1", "a-2"]
    assert names(NextToken=first["NextToken"]) == ["b-1"]
    metric = {"Namespace": NAMESPACE, "MetricName": "errors", "Dimensions": JOB}
    assert len(service("DescribeAlarmsForMetric", **metric)["MetricAlarms"]) == 3
    assert service("DescribeAlarmsForMetric", **metric, Period=300)["MetricAlarms"] == []


def test_alarms_are_deleted_all_or_none(service: CloudWatch) -> None:
    service("PutMetricAlarm", **ALARM)
    assert service.fails("DeleteAlarms", AlarmNames=["errors", "zz"])[0] == "ResourceNotFound"
    assert state_of(service) == "INSUFFICIENT_DATA"
    service("DeleteAlarms", AlarmNames=["errors"])
    assert service("DescribeAlarms")["MetricAlarms"] == []
    history = service("DescribeAlarmHistory", AlarmName="errors")["AlarmHistoryItems"]
    assert history[0]["HistorySummary"] == 'Alarm "errors" deleted'


def test_actions_can_be_disabled_and_enabled(service: CloudWatch) -> None:
    service("PutMetricAlarm", **ALARM)
    service("DisableAlarmActions", AlarmNames=["errors", "unknown"])
    assert service("DescribeAlarms")["MetricAlarms"][0]["ActionsEnabled"] is False
    service("EnableAlarmActions", AlarmNames=["errors"])
    assert service("DescribeAlarms")["MetricAlarms"][0]["ActionsEnabled"] is True


def test_alarms_have_tags(service: CloudWatch) -> None:
    service("PutMetricAlarm", **ALARM)
    arn = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:errors"
    service("TagResource", ResourceARN=arn, Tags=[{"Key": "a", "Value": "1"}])
    service("TagResource", ResourceARN=arn, Tags=[{"Key": "b", "Value": "2"}])
    service("UntagResource", ResourceARN=arn, TagKeys=["a"])
    assert service("ListTagsForResource", ResourceARN=arn) == {"Tags": [{"Key": "b", "Value": "2"}]}
    assert service.fails("ListTagsForResource", ResourceARN=f"{arn}x")[0] == (
        "ResourceNotFoundException"
    )
