"""Create, describe, update, stop and delete mean the same for every kind."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from clary.engine.call import Call
from clary.engine.verbs import ATTEMPTS_MAX, new_row
from clary.identity.principals import Principal
from clary.store.rows import Row, RowChanged
from tests.engine.small_parts import ACCOUNT, REGION, USER, SmallParts

PREFIX = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"


def row_of(parts: SmallParts, noun: str, name: str) -> Row:
    row = parts.store.rows.get(noun, name, account=ACCOUNT, region=REGION)
    assert row is not None
    return row


def test_a_created_resource_is_described_as_it_was_asked_for(parts: SmallParts) -> None:
    container = {"Image": "i", "Environment": {"A": "1"}}
    made = parts.ask("CreateModel", ModelName="m", PrimaryContainer=container, Tags=[])
    assert made == {"ModelArn": f"{PREFIX}:model/m"}
    assert parts.ask("DescribeModel", ModelName="m") == {
        "ModelName": "m",
        "PrimaryContainer": container,
        "EnableNetworkIsolation": False,
        "CreationTime": parts.now,
        "ModelArn": f"{PREFIX}:model/m",
    }
    row = row_of(parts, "Model", "m")
    assert row.state == {"created_by": USER}
    assert (row.status, row.due, row.created) == ("", None, parts.now)
    assert parts.store.rows.events(row.arn) == []


def test_defaults_give_way_to_what_is_asked_for(parts: SmallParts) -> None:
    parts.ask("CreateModel", ModelName="m", EnableNetworkIsolation=True)
    assert parts.ask("DescribeModel", ModelName="m")["EnableNetworkIsolation"] is True


def test_a_check_that_fails_leaves_nothing_behind(parts: SmallParts) -> None:
    refused = parts.refused("CreateModel", ModelName="damn")
    assert refused == ("ValidationException", "Names are polite.")
    assert parts.store.rows.every("Model", account=ACCOUNT, region=REGION) == []


def test_a_taken_name_is_refused_in_the_words_of_its_kind(parts: SmallParts) -> None:
    for operation, members, error in (
        (
            "CreateModel",
            {"ModelName": "m"},
            ("ValidationException", f'Cannot create already existing model "{PREFIX}:model/m".'),
        ),
        (
            "CreateTransformJob",
            {"TransformJobName": "j"},
            (
                "ResourceInUse",
                "Resource Already Exists: TransformJob with name j already exists. "
                "Choose a different name.",
            ),
        ),
        (
            "CreateCodeRepository",
            {"CodeRepositoryName": "c"},
            ("ValidationException", f"There is c at {PREFIX}:code-repository/c already."),
        ),
    ):
        parts.ask(operation, **members)
        assert parts.refused(operation, **members) == error


def test_a_missing_name_is_refused_in_the_words_of_its_kind(parts: SmallParts) -> None:
    for operation, members, error in (
        (
            "DescribeModel",
            {"ModelName": "m"},
            ("ValidationException", f'Could not find model "{PREFIX}:model/m".'),
        ),
        (
            "DescribePipeline",
            {"PipelineName": "p"},
            ("ResourceNotFound", "Pipeline 'p' does not exist."),
        ),
        (
            "DeleteExperiment",
            {"ExperimentName": "E"},
            ("ResourceNotFound", f"No E at {PREFIX}:experiment/e."),
        ),
    ):
        assert parts.refused(operation, **members) == error


def test_resources_of_regions_are_apart(parts: SmallParts) -> None:
    parts.ask("CreateModel", ModelName="m")
    parts.ask("CreateModel", ModelName="m", region="eu-west-1")
    shown = parts.ask("DescribeModel", ModelName="m", region="eu-west-1")
    assert shown["ModelArn"] == f"arn:aws:sagemaker:eu-west-1:{ACCOUNT}:model/m"
    parts.ask("DeleteModel", ModelName="m")
    assert parts.ask("DescribeModel", ModelName="m", region="eu-west-1") == shown


def test_an_arn_is_accepted_where_a_name_is(parts: SmallParts) -> None:
    parts.ask("CreateExperiment", ExperimentName="MyExperiment")
    arn = f"{PREFIX}:experiment/myexperiment"
    shown = parts.ask("DescribeExperiment", ExperimentName=arn)
    assert (shown["ExperimentName"], shown["ExperimentArn"]) == ("MyExperiment", arn)


@pytest.mark.parametrize(
    "arn",
    [
        f"arn:aws:sagemaker:{REGION}:999999999999:experiment/e",
        f"arn:aws:sagemaker:eu-west-1:{ACCOUNT}:experiment/e",
        f"{PREFIX}:model/e",
    ],
)
def test_an_arn_of_something_else_finds_nothing(arn: str, parts: SmallParts) -> None:
    parts.ask("CreateExperiment", ExperimentName="e")
    parts.ask("CreateModel", ModelName="e")
    code, message = parts.refused("DescribeExperiment", ExperimentName=arn)
    assert code == "ResourceNotFound" and arn in message


def test_a_service_names_what_the_caller_does_not(parts: SmallParts) -> None:
    made = parts.ask("CreateDomain", DomainName="lab")
    assert made["DomainArn"] == f"{PREFIX}:domain/d-lab" and made["DomainId"] == "d-lab"
    assert parts.ask("DescribeDomain", DomainId="d-lab")["DomainName"] == "lab"


def test_a_kind_without_names_must_say_how_they_are_made(parts: SmallParts) -> None:
    call = Call("sagemaker", "CreatePipeline", {}, ACCOUNT, REGION, _ada(), "r", 0.0, parts)
    with pytest.raises(ValueError, match="must declare `identifier`"):
        new_row(parts.bound("Pipeline"), call)


def _ada() -> Principal:
    return Principal(ACCOUNT, USER, "AIDA", "user", "ada")


def test_children_live_under_their_parent(parts: SmallParts) -> None:
    for domain in ("d-1", "d-2"):
        parts.ask("CreateUserProfile", DomainId=domain, UserProfileName="ada")
    shown = parts.ask("DescribeUserProfile", DomainId="d-1", UserProfileName="ada")
    assert shown["UserProfileArn"] == f"{PREFIX}:user-profile/d-1/ada"
    parts.ask("DeleteUserProfile", DomainId="d-1", UserProfileName="ada")
    assert parts.ask("DescribeUserProfile", DomainId="d-2", UserProfileName="ada")
    assert parts.refused("DescribeUserProfile", DomainId="d-1", UserProfileName="ada")


def test_the_same_token_is_the_same_request(parts: SmallParts) -> None:
    given = {"PipelineName": "p", "PipelineDefinition": "{}", "ClientRequestToken": "t" * 32}
    made = parts.ask("CreatePipeline", **given)
    assert parts.ask("CreatePipeline", **given) == made
    assert parts.refused("CreatePipeline", **{**given, "ClientRequestToken": "u" * 32})
    assert "ClientRequestToken" not in row_of(parts, "Pipeline", "p").document


def test_a_secret_is_kept_and_never_told(parts: SmallParts) -> None:
    given = {"PipelineName": "p", "PipelineDefinition": "hidden", "ClientRequestToken": "t" * 32}
    parts.ask("CreatePipeline", **given)
    assert row_of(parts, "Pipeline", "p").document["PipelineDefinition"] == "hidden"
    assert "hidden" not in str(parts.ask("DescribePipeline", PipelineName="p"))
    assert "hidden" not in str(parts.ask("ListPipelines"))


def test_times_of_a_request_are_kept_as_seconds(parts: SmallParts) -> None:
    when = datetime(2024, 5, 1, tzinfo=UTC)
    parts.ask("CreateContext", ContextName="c", Properties={"At": [when]})
    shown = parts.ask("DescribeContext", ContextName="c")
    assert shown["Properties"] == {"At": [when.timestamp()]}


def test_computed_and_wrapped_and_renamed_members_are_shown(parts: SmallParts) -> None:
    parts.ask("CreateContext", ContextName="c", Description="plain")
    assert parts.ask("DescribeContext", ContextName="c")["Description"] == "c!"
    parts.ask("CreateWorkforce", WorkforceName="w")
    shown = parts.ask("DescribeWorkforce", WorkforceName="w")["Workforce"]
    assert shown["WorkforceName"] == "w"
    parts.ask("CreateMonitoringSchedule", MonitoringScheduleName="s", Watched="e")
    assert parts.ask("DescribeMonitoringSchedule", MonitoringScheduleName="s")["EndpointName"] == (
        "e"
    )


def test_who_made_and_who_changed_it_are_told(parts: SmallParts) -> None:
    parts.ask("CreateContext", ContextName="c")
    user = {"IamIdentity": {"Arn": USER}}
    shown = parts.ask("DescribeContext", ContextName="c")
    assert shown["CreatedBy"] == user and "LastModifiedBy" not in shown
    parts.ask("UpdateContext", ContextName="c", Properties={"a": "1"})
    assert parts.ask("DescribeContext", ContextName="c")["LastModifiedBy"] == user


def test_an_update_replaces_merges_and_removes(parts: SmallParts) -> None:
    parts.ask("CreateContext", ContextName="c", Properties={"a": "1", "b": "2"}, ContextType="t")
    parts.now += 10
    answer = parts.ask(
        "UpdateContext",
        ContextName="c",
        Properties={"b": "3", "c": "4"},
        PropertiesToRemove=["a", "absent"],
    )
    assert answer == {"ContextArn": f"{PREFIX}:context/c"}
    shown = parts.ask("DescribeContext", ContextName="c")
    assert shown["Properties"] == {"b": "3", "c": "4"} and shown["ContextType"] == "t"
    assert shown["LastModifiedTime"] - shown["CreationTime"] == 10


def test_an_update_of_nothing_there_says_so(parts: SmallParts) -> None:
    assert parts.refused("UpdateContext", ContextName="no")[0] == "ResourceNotFound"


def other_writers(parts: SmallParts, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The next `count` guarded writes find that somebody was quicker."""
    rows = parts.store.rows
    left = [None] * count

    def contested(kept: Any) -> Any:
        def write(row: Row, *happened: Any, **more: Any) -> Any:
            if left:
                left.pop()
                raise RowChanged(row.name)
            return kept(row, *happened, **more)

        return write

    monkeypatch.setattr(rows, "update", contested(rows.update))
    monkeypatch.setattr(rows, "delete", contested(rows.delete))


@pytest.mark.parametrize("operation", ["UpdateContext", "DeleteContext"])
def test_a_write_that_lost_is_tried_again(
    operation: str, parts: SmallParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.ask("CreateContext", ContextName="c")
    other_writers(parts, monkeypatch, ATTEMPTS_MAX - 1)
    assert parts.ask(operation, ContextName="c") == {"ContextArn": f"{PREFIX}:context/c"}


@pytest.mark.parametrize("operation", ["UpdateContext", "DeleteContext"])
def test_a_write_that_always_loses_is_a_conflict(
    operation: str, parts: SmallParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.ask("CreateContext", ContextName="c")
    other_writers(parts, monkeypatch, ATTEMPTS_MAX)
    assert parts.refused(operation, ContextName="c") == (
        "ConflictException",
        f"{operation} met {ATTEMPTS_MAX} other writers of the same context; try again.",
    )


def test_a_planned_kind_is_due_at_once_and_wakes_the_loop(parts: SmallParts) -> None:
    parts.ask("CreateTransformJob", TransformJobName="j")
    assert row_of(parts, "TransformJob", "j").due == parts.now
    assert parts.woken == 1
    assert parts.ask("DescribeTransformJob", TransformJobName="j")["TransformJobStatus"] == (
        "InProgress"
    )


def test_stopping_sets_the_status_and_wakes_the_loop(parts: SmallParts) -> None:
    parts.ask("CreateTransformJob", TransformJobName="j")
    parts.now += 5
    assert parts.ask("StopTransformJob", TransformJobName="j") == {}
    row = row_of(parts, "TransformJob", "j")
    assert (row.status, row.due, parts.woken) == ("Stopping", parts.now, 2)
    assert [one.detail["to"] for one in parts.store.rows.events(row.arn)] == [
        "InProgress",
        "Stopping",
    ]


@pytest.mark.parametrize("status", ["Completed", "Failed", "Stopped"])
def test_stopping_what_has_ended_is_rejected(status: str, parts: SmallParts) -> None:
    parts.ask("CreateTransformJob", TransformJobName="j")
    row = row_of(parts, "TransformJob", "j")
    row.status = status
    parts.store.rows.update(row)
    assert parts.refused("StopTransformJob", TransformJobName="j") == (
        "ValidationException",
        f"The request was rejected because the transform job is in status {status}.",
    )


def test_a_kind_that_cannot_stop_says_so(parts: SmallParts) -> None:
    parts.ask("CreateMonitoringSchedule", MonitoringScheduleName="s")
    refused = parts.refused("StopMonitoringSchedule", MonitoringScheduleName="s")
    assert refused[0] == "NotImplementedException" and "StopMonitoringSchedule" in refused[1]


def test_deleting_leaves_nothing_but_the_history(parts: SmallParts) -> None:
    parts.ask("CreateModel", ModelName="m")
    assert parts.ask("DeleteModel", ModelName="m") == {}
    assert parts.refused("DeleteModel", ModelName="m")[0] == "ValidationException"
    events = parts.store.rows.events(f"{PREFIX}:model/m")
    assert events[-1].detail == {"from": "", "to": "Deleted"}
    assert parts.ask("CreateModel", ModelName="m")
