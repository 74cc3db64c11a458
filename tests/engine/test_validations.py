"""Validation profiles: chains of children on whose ends the status of their row hangs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clary.engine import validations
from clary.engine.validations import Stages
from clary.reconcile.decisions import Call, Launch
from clary.reconcile.loop import apply
from clary.reconcile.observations import Absent, Exited, Observation, Running
from clary.reconcile.seen import Seen
from clary.store.rows import Row

STAGES = Stages(
    {"model": "Model", "job": "Job"}, lambda row, number, stage: {}, frozenset({"model"})
)


def package(*profiles: str) -> Row:
    begun = validations.begun([(name, ("model", "job")) for name in profiles])
    return Row(
        kind="Package", name="group/1", arn="arn:aws:sagemaker:::package/group/1",
        account="1", region="us-east-1", status="Pending", created=1.0,
        state={"validations": begun},
    )  # fmt: skip


def turn(row: Row, hosts: Mapping[str, Observation] | None = None) -> list[Any]:
    decisions = list(STAGES.plan(row, Seen(now=10.0, hosts=hosts or {})))
    apply(row, decisions, validations.LIFECYCLE)
    return decisions


def launched(decisions: list[Any]) -> tuple[str, ...]:
    return next((one.hosts for one in decisions if isinstance(one, Launch)), ())


MADE, RUNNING = Exited({"result": ""}), Running("InProgress")


def test_each_stage_begins_when_the_one_before_it_has_ended():
    row = package("first")
    assert launched(turn(row)) == ("0-model",)
    assert (row.status, validations.told(row)) == (
        "InProgress", [{"Name": "first", "Status": "InProgress"}],
    )  # fmt: skip
    assert launched(turn(row, {"0-model": Absent()})) == ("0-model",)
    assert launched(turn(row, {"0-model": MADE})) == ("0-job",)
    assert launched(turn(row, {"0-model": MADE, "0-job": RUNNING})) == ()
    ended = Exited({"result": "Completed", "artifacts": "s3://a/b"})
    (call,) = [one for one in turn(row, {"0-model": MADE, "0-job": ended}) if isinstance(one, Call)]
    name = validations.child_name(row, "0-model")
    assert (call.operation, call.request) == ("DeleteModel", {"ModelName": name})
    assert row.status == "InProgress"  # until what was made for the while is gone
    assert validations.told(row) == [{"Name": "first", "Status": "Completed"}]
    assert row.state["validations"][0]["facts"] == {"artifacts": "s3://a/b"}
    turn(row, {"0-model": Absent()})
    assert (row.status, row.state["hosts"]) == ("Completed", {})
    assert turn(row) == []


def test_a_profile_that_fails_says_why_and_the_others_are_heard_first():
    row = package("bad", "good")
    assert launched(turn(row)) == ("0-model", "1-model")
    refused = Exited({"result": "refused", "failure": "Could not find model data."})
    assert launched(turn(row, {"0-model": refused, "1-model": MADE})) == ("1-job",)
    assert row.status == "InProgress"
    stopped = Exited({"result": "Stopped"})
    turn(row, {"1-model": MADE, "1-job": stopped})
    turn(row, {"1-model": Absent()})
    assert row.status == "Failed"
    assert validations.told(row) == [
        {"Name": "bad", "Status": "Failed", "FailureReason": "Could not find model data."},
        {"Name": "good", "Status": "Failed",
         "FailureReason": "The job of this profile ended as Stopped."},
    ]  # fmt: skip


def test_children_have_names_that_the_api_takes():
    names = {validations.child_name(package("a"), key) for key in ("0-model", "0-job", "1-job")}
    assert len(names) == 3
    assert all(len(name) <= 63 and "/" not in name for name in names)
