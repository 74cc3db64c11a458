"""Every call is on the trail, told as CloudTrail tells it, and no secret is."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from clary.gateway.audit import Trail
from tests.gateway.conftest import Gateway
from tests.gateway.test_chain import ACCOUNT, ROLE, allow, user

HIDDEN = "hunter2-is-my-password"


def test_a_record_tells_who_did_what_where(gateway: Gateway) -> None:
    asked = {"ExperimentName": "e", "Tags": [{"Key": "team", "Value": "blue"}]}
    made = gateway.ask(
        "CreateExperiment", asked, added={"User-Agent": "Boto3/1", "x-clary-peer": "10.0.0.9"}
    )
    record = gateway.audit()[-1]
    assert record["userIdentity"] == {
        "type": "IAMUser",
        "principalId": record["userIdentity"]["principalId"],
        "arn": f"arn:aws:iam::{ACCOUNT}:user/admin",
        "accountId": ACCOUNT,
        "accessKeyId": gateway.admin.access_key,
    }
    assert record["userIdentity"]["principalId"].startswith("AIDA")
    expected = {
        "eventSource": "sagemaker.amazonaws.com",
        "eventName": "CreateExperiment",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "10.0.0.9",
        "userAgent": "Boto3/1",
        "requestParameters": {
            "experimentName": "e",
            "tags": [{"key": "team", "value": "blue"}],
        },
        "responseElements": {
            "experimentArn": f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:experiment/e"
        },
        "requestID": made.headers["x-amzn-requestid"],
        "readOnly": False,
        "eventType": "AwsApiCall",
        "recipientAccountId": ACCOUNT,
    }
    assert {key: record[key] for key in expected} == expected
    assert len(record["eventTime"]) == len("2026-01-01T00:00:00Z") and "errorCode" not in record


def test_reads_are_marked_and_their_answers_left_out(gateway: Gateway) -> None:
    gateway.ask("ListModels")
    record = gateway.audit()[-1]
    assert record["readOnly"] is True and record["responseElements"] is None


def test_refusals_are_on_the_trail(gateway: Gateway) -> None:
    ada = user(gateway, allow("s3:*"))
    gateway.ask("ListModels", credentials=ada)
    gateway.ask("DescribeModel", {"ModelName": "m"})
    denied, absent = gateway.audit()[-2:]
    assert denied["errorCode"] == "AccessDeniedException"
    assert denied["userIdentity"]["arn"].endswith(":user/ada")
    assert absent["errorMessage"].startswith("Could not find model")
    assert absent["responseElements"] is None


def trail_text(gateway: Gateway) -> str:
    gateway.audit()
    return "".join(one.read_text() for one in (gateway.settings.home / "audit").iterdir())


def test_no_secret_is_on_the_trail(gateway: Gateway) -> None:
    ada = user(gateway, allow("sagemaker:*"))
    container = {"Image": "i:1", "Environment": {"PASSWORD": HIDDEN}}
    for containers in ({"PrimaryContainer": container}, {"Containers": [container, container]}):
        model = {"ModelName": f"m{len(containers)}", "ExecutionRoleArn": ROLE, **containers}
        assert gateway.ask("CreateModel", model).status in (200, 400)
    job = {"TrainingJobName": "j", "HyperParameters": {"key": HIDDEN}}
    gateway.ask("CreateTrainingJob", job)
    gateway.ask("CreateTrainingJob", {"HyperParameters": {HIDDEN * 100: "x"}})
    text = trail_text(gateway)
    assert "CreateTrainingJob" in text and "CreateAccessKey" in text
    for secret in (HIDDEN, ada.secret_key, gateway.admin.secret_key):
        assert secret not in text


def test_what_callers_ship_in_bulk_is_only_counted(gateway: Gateway) -> None:
    events = [{"timestamp": 1, "message": HIDDEN}] * 3
    body = {"logGroupName": "g", "logStreamName": "s", "logEvents": events}
    headers = {
        "X-Amz-Target": "Logs_20140328.PutLogEvents",
        "Content-Type": "application/x-amz-json-1.1",
    }
    gateway.send(json.dumps(body).encode(), headers, service="logs")
    record = gateway.audit()[-1]
    assert record["requestParameters"]["logEvents"] == "(3 items)"
    assert HIDDEN not in trail_text(gateway)


def test_no_input_stops_the_trail(gateway: Gateway) -> None:
    """A thread that died would let the queue fill and then every call wait."""
    gateway.ask("ListModels", b'{"MaxResults": 1' + b"0" * 40 + b"}")
    gateway.ask("ListModels", b'{"NameContains": "\\ud800"}')
    gateway.query("iam", "ListUsers", "2010-05-08", MaxItems="9" * 40)
    gateway.ask("ListModels")
    assert gateway.audit()[-1]["eventName"] == "ListModels"


def test_only_its_owner_reads_the_trail(gateway: Gateway) -> None:
    gateway.ask("ListModels")
    gateway.audit()
    assert (gateway.settings.home / "audit").stat().st_mode & 0o077 == 0


def test_a_full_disk_is_logged_and_the_trail_goes_on(
    tmp_path: Path, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "audit").write_text("a file where the folder should be")
    trail = Trail(tmp_path / "audit")
    gateway.chain.trail = trail
    with caplog.at_level(logging.ERROR):
        assert gateway.ask("ListModels").status == 200
        trail.close()
    assert "1 calls are missing in the audit trail" in caplog.text
