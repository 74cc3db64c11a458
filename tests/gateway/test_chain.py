"""A request passes every step of the chain or is refused with the code that AWS gives for it."""

from __future__ import annotations

import json
import logging
import sqlite3
import uuid
from typing import Any

import pytest
from botocore.credentials import Credentials
from sqlalchemy import event

from clary.engine.call import Call
from clary.engine.registry import Answer as Handled
from clary.identity.principals import service_principal, session_principal
from clary.identity.sessions import issue
from clary.model.errors import ApiError
from tests.gateway.conftest import Gateway

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/ClaryExecutionRole"


def test_a_signed_request_is_answered(gateway: Gateway) -> None:
    made = gateway.ask("CreateExperiment", {"ExperimentName": "e"})
    assert made.status == 200
    assert made.document == {"ExperimentArn": f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:experiment/e"}
    assert made.headers["content-type"] == "application/x-amz-json-1.1"
    assert uuid.UUID(made.headers["x-amzn-requestid"])


def test_an_operation_without_an_answer_has_an_empty_body(gateway: Gateway) -> None:
    gateway.ask("CreateAppImageConfig", {"AppImageConfigName": "a"})
    gone = gateway.ask("DeleteAppImageConfig", {"AppImageConfigName": "a"})
    assert (gone.status, gone.body) in ((200, b""), (200, b"{}"))


def test_a_full_disk_is_named_and_a_freed_one_works_on(gateway: Gateway) -> None:
    connections: list[sqlite3.Connection] = []

    @event.listens_for(gateway.store.database.engine, "connect")
    def bound(connection: sqlite3.Connection, _record: object) -> None:
        connections.append(connection)
        connection.execute("PRAGMA max_page_count=1")  # as many as there are: not one more

    for number in range(200):
        made = gateway.ask(
            "CreateExperiment", {"ExperimentName": f"e{number}", "Description": "d" * 3_000}
        )
        if made.status != 200:
            break
    assert made.status == 400
    assert (made.document["__type"], made.document["Message"]) == (
        "ResourceLimitExceeded",
        "The disk that holds Clary's home or database is full; nothing was changed. "
        "Free some space and try again.",
    )
    asked = {"ExperimentName": f"e{number}"}
    assert gateway.ask("DescribeExperiment", asked).error[0] == "ResourceNotFound"
    for connection in connections:
        connection.execute("PRAGMA max_page_count=1000000")
    assert gateway.ask("CreateExperiment", asked).status == 200


def test_an_unsigned_request_has_no_caller(gateway: Gateway) -> None:
    answer = gateway.ask("ListModels", signed=False)
    assert answer.status == 400
    assert answer.error == ("MissingAuthenticationTokenException", "Missing Authentication Token")


def test_an_unknown_key_is_refused(gateway: Gateway) -> None:
    answer = gateway.ask("ListModels", credentials=Credentials("AKIAUNKNOWN000000000", "s"))
    assert answer.status == 400
    assert answer.error == (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    )


def test_a_wrong_secret_is_refused(gateway: Gateway) -> None:
    answer = gateway.ask("ListModels", credentials=Credentials(gateway.admin.access_key, "wrong"))
    assert answer.status == 400
    assert answer.error[0] == "InvalidSignatureException"
    assert answer.error[1].startswith(
        "The request signature we calculated does not match the signature you provided."
    )
    assert gateway.admin.secret_key not in answer.body.decode()


def test_a_body_that_was_changed_is_refused(gateway: Gateway) -> None:
    answer = gateway.ask("ListModels", {"MaxResults": 1}, sent=b'{"MaxResults": 2}')
    assert (answer.status, answer.error[0]) == (400, "InvalidSignatureException")


@pytest.mark.parametrize("seconds", [-1_000.0, 1_000.0])
def test_a_clock_that_is_wrong_is_refused(seconds: float, gateway: Gateway) -> None:
    gateway.ahead = seconds
    code, message = gateway.ask("ListModels").error
    assert code == "InvalidSignatureException"
    assert ("Signature expired" if seconds > 0 else "Signature not yet current") in message


def session(gateway: Gateway, seconds: float = 900.0, policy: str = "") -> Credentials:
    role = gateway.store.rows.get("iam:Role", "ClaryExecutionRole", account=ACCOUNT)
    assert role is not None
    principal = session_principal(ACCOUNT, role.arn, role.document["RoleId"], "test")
    made = issue(gateway.key, principal, seconds, now=gateway.clock(), session_policy=policy)
    return Credentials(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])


def test_a_session_acts_until_it_expires(gateway: Gateway) -> None:
    assert gateway.ask("ListModels", credentials=session(gateway)).status == 200
    answer = gateway.ask("ListModels", credentials=session(gateway, -1.0))
    assert answer.status == 400
    assert answer.error == (
        "ExpiredTokenException",
        "The security token included in the request is expired",
    )


def test_a_token_of_another_key_is_refused(gateway: Gateway) -> None:
    first, second = session(gateway), session(gateway)
    mixed = Credentials(first.access_key, first.secret_key, second.token)
    assert gateway.ask("ListModels", credentials=mixed).error[0] == "UnrecognizedClientException"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"a": NaN}', b"{}{}"])
def test_a_body_that_is_no_json_object_is_refused(body: bytes, gateway: Gateway) -> None:
    answer = gateway.ask("ListModels", body)
    assert (answer.status, answer.error[0]) == (400, "SerializationException")


@pytest.mark.parametrize(
    "members",
    [
        {"MaxResults": "many"},
        {"MaxResults": []},
        {"NameContains": {"a": 1}},
        {"CreationTimeAfter": "yesterday"},
    ],
)
def test_a_member_of_another_type_is_refused(members: Any, gateway: Gateway) -> None:
    answer = gateway.ask("ListModels", members)
    assert (answer.status, answer.error[0]) == (400, "SerializationException")


def test_members_that_the_model_lacks_are_ignored(gateway: Gateway) -> None:
    made = gateway.ask("CreateExperiment", {"ExperimentName": "e", "Colour": "red", "Name": None})
    assert made.status == 200
    shown = gateway.ask("DescribeExperiment", {"ExperimentName": "e"}).document
    assert "Colour" not in shown and shown["ExperimentName"] == "e"


def test_a_broken_constraint_is_told(gateway: Gateway) -> None:
    answer = gateway.ask("DescribeExperiment", {})
    assert (answer.status, *answer.error) == (
        400,
        "ValidationException",
        "1 validation error detected: Value null at 'experimentName' failed to satisfy "
        "constraint: Member must not be null",
    )


def test_an_operation_that_sagemaker_lacks_is_unknown(gateway: Gateway) -> None:
    answer = gateway.ask("DanceTango")
    assert (answer.status, answer.error[0]) == (400, "UnknownOperationException")


def test_an_operation_that_is_not_built_says_so(gateway: Gateway) -> None:
    del gateway.registry.answers["sagemaker", "ListExperiments"]
    answer = gateway.ask("ListExperiments")
    assert (answer.status, *answer.error) == (
        400,
        "NotImplementedException",
        "ListExperiments (sagemaker) is not built yet in this version of Clary. "
        "docs/compatibility.md lists what is.",
    )


def test_a_service_that_aws_lacks_is_unknown(gateway: Gateway) -> None:
    answer = gateway.ask("Pour", service="teapot")
    assert answer.status == 400
    assert answer.error == (
        "UnknownOperationException",
        "Clary does not know the service 'teapot'.",
    )


def test_a_defect_answers_with_the_request_that_its_log_line_names(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(call: Call) -> dict[str, Any]:
        raise LookupError("a secret detail")

    gateway.registry.answers["sagemaker", "ListModels"] = Handled(broken, "test")
    with caplog.at_level(logging.ERROR):
        answer = gateway.ask("ListModels")
    request = answer.headers["x-amzn-requestid"]
    assert answer.status == 500
    code, message = answer.error
    assert code == "InternalFailure" and request in message and "secret detail" not in message
    assert f"request {request} failed" in caplog.text and "a secret detail" in caplog.text


def test_an_answer_that_cannot_be_written_is_a_defect_as_well(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    def unspeakable(call: Call) -> dict[str, Any]:
        return {"Models": [{"ModelName": "m", "CreationTime": object()}]}

    gateway.registry.answers["sagemaker", "ListModels"] = Handled(unspeakable, "test")
    with caplog.at_level(logging.ERROR):
        answer = gateway.ask("ListModels")
    assert (answer.status, answer.error[0]) == (500, "InternalFailure")
    assert gateway.ask("ListExperiments").status == 200


def user(gateway: Gateway, *statements: dict[str, Any]) -> Credentials:
    """A user who may do what the statements say, made through IAM's own operations."""
    policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    version = "2010-05-08"
    assert gateway.query("iam", "CreateUser", version, UserName="ada").status == 200
    attached = {"UserName": "ada", "PolicyName": "p", "PolicyDocument": policy}
    assert gateway.query("iam", "PutUserPolicy", version, **attached).status == 200
    made = gateway.query("iam", "CreateAccessKey", version, UserName="ada").body.decode()
    key = made.split("<AccessKeyId>")[1].split("<")[0]
    return Credentials(key, made.split("<SecretAccessKey>")[1].split("<")[0])


def allow(*actions: str, resource: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource, **more}


def test_what_no_policy_allows_is_denied_in_the_words_of_aws(gateway: Gateway) -> None:
    ada = user(gateway, allow("sagemaker:Describe*"))
    assert gateway.ask("ListModels", credentials=ada).error == (
        "AccessDeniedException",
        f"User: arn:aws:iam::{ACCOUNT}:user/ada is not authorized to perform: "
        "sagemaker:ListModels on resource: * because no identity-based policy allows the "
        "sagemaker:ListModels action",
    )
    absent = gateway.ask("DescribeModel", {"ModelName": "m"}, credentials=ada)
    assert absent.error[0] == "ValidationException"


def test_an_explicit_denial_wins_and_names_the_resource(gateway: Gateway) -> None:
    arn = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:experiment/secret-*"
    denial = {"Effect": "Deny", "Action": "sagemaker:*", "Resource": arn}
    ada = user(gateway, allow("sagemaker:*"), denial)
    made = gateway.ask("CreateExperiment", {"ExperimentName": "open-1"}, credentials=ada)
    assert made.status == 200
    answer = gateway.ask("CreateExperiment", {"ExperimentName": "Secret-1"}, credentials=ada)
    assert answer.error == (
        "AccessDeniedException",
        f"User: arn:aws:iam::{ACCOUNT}:user/ada is not authorized to perform: "
        f"sagemaker:CreateExperiment on resource: {arn.replace('*', '1')} "
        "with an explicit deny in an identity-based policy",
    )


def test_a_denied_caller_does_not_learn_what_is_wrong_with_his_request(gateway: Gateway) -> None:
    ada = user(gateway, allow("s3:*"))
    answer = gateway.ask("DescribeModel", {"ModelName": "!"}, credentials=ada)
    assert answer.error[0] == "AccessDeniedException"


def test_tags_of_a_request_are_conditions(gateway: Gateway) -> None:
    condition = {"StringEquals": {"aws:RequestTag/team": "blue"}}
    ada = user(gateway, allow("sagemaker:CreateExperiment", Condition=condition))
    tags = [{"Key": "team", "Value": "blue"}]
    fitting = {"ExperimentName": "e", "Tags": tags}
    assert gateway.ask("CreateExperiment", fitting, credentials=ada).status == 200
    for wrong in (
        {"ExperimentName": "f"},
        {"ExperimentName": "f", "Tags": [{**tags[0], "Value": "red"}]},
    ):
        answer = gateway.ask("CreateExperiment", wrong, credentials=ada)
        assert answer.error[0] == "AccessDeniedException"


def test_a_session_policy_narrows_a_role(gateway: Gateway) -> None:
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow("sagemaker:ListModels")]})
    narrow = session(gateway, policy=policy)
    assert gateway.ask("ListModels", credentials=narrow).status == 200
    answer = gateway.ask("ListExperiments", credentials=narrow)
    assert answer.error[0] == "AccessDeniedException"
    assert (
        "because no session policy allows the sagemaker:ListExperiments action" in answer.error[1]
    )


def test_everyone_may_ask_who_he_is(gateway: Gateway) -> None:
    ada = user(gateway, allow("s3:*"))
    words = b"Action=GetCallerIdentity&Version=2011-06-15"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = gateway.send(words, form, credentials=ada, service="sts")
    assert answer.status == 200 and f"arn:aws:iam::{ACCOUNT}:user/ada".encode() in answer.body


def model(role: str) -> dict[str, Any]:
    return {"ModelName": "m", "ExecutionRoleArn": role, "PrimaryContainer": {"Image": "i:1"}}


def test_a_role_may_be_used_by_who_may_pass_it(gateway: Gateway) -> None:
    ada = user(gateway, allow("sagemaker:*"))
    answer = gateway.ask("CreateModel", model(ROLE), credentials=ada)
    assert answer.error == (
        "AccessDeniedException",
        f"User: arn:aws:iam::{ACCOUNT}:user/ada is not authorized to perform: iam:PassRole on "
        f"resource: {ROLE} because no identity-based policy allows the iam:PassRole action",
    )
    assert gateway.ask("CreateModel", model(ROLE)).status == 200


def test_a_role_that_is_passed_to_another_service_alone_is_denied(gateway: Gateway) -> None:
    condition = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    ada = user(gateway, allow("sagemaker:*"), allow("iam:PassRole", Condition=condition))
    answer = gateway.ask("CreateModel", model(ROLE), credentials=ada)
    assert answer.error[0] == "AccessDeniedException" and "iam:PassRole" in answer.error[1]


@pytest.mark.parametrize("exists", [False, True])
def test_a_role_must_exist_and_trust_sagemaker(exists: bool, gateway: Gateway) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/for-lambda"
    if exists:
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "lambda.amazonaws.com"},
                    "Action": "sts:AssumeRole",
                }
            ],
        }
        document = json.dumps(trust)
        made = gateway.query(
            "iam",
            "CreateRole",
            "2010-05-08",
            RoleName="for-lambda",
            AssumeRolePolicyDocument=document,
        )
        assert made.status == 200
    answer = gateway.ask("CreateModel", model(role))
    assert (answer.status, *answer.error) == (
        400,
        "ValidationException",
        f"Could not assume role {role}. Please ensure that the role exists and allows principal "
        "'sagemaker.amazonaws.com' to assume the role.",
    )


def test_an_error_of_a_query_service_is_xml(gateway: Gateway) -> None:
    answer = gateway.query("iam", "GetUser", "2010-05-08", UserName="nobody")
    assert answer.status == 404
    assert b"<Code>NoSuchEntity</Code>" in answer.body and b"<RequestId>" in answer.body


def test_calls_in_process_pass_the_same_steps(gateway: Gateway) -> None:
    role = gateway.store.rows.get("iam:Role", "ClaryRunner", account=ACCOUNT)
    runner = session_principal(ACCOUNT, role.arn if role else "arn:aws:iam::1:role/x", "AROA", "s")
    clary = service_principal(ACCOUNT, "sagemaker.amazonaws.com")
    made = gateway.chain.call(
        "sagemaker", "CreateExperiment", {"ExperimentName": "e"}, clary, "us-east-1"
    )
    assert made["ExperimentArn"].endswith("experiment/e")
    for principal, operation, request, code in (
        (clary, "CreateExperiment", {"ExperimentName": "!"}, "ValidationException"),
        (clary, "CreateExperiment", {"ExperimentName": "e"}, "ValidationException"),
        (clary, "DanceTango", {}, "UnknownOperationException"),
        (runner, "CreateExperiment", {"ExperimentName": "f"}, "AccessDeniedException"),
    ):
        with pytest.raises(ApiError) as caught:
            gateway.chain.call("sagemaker", operation, request, principal, "us-east-1")
        assert caught.value.code == code
    told = [(one["eventName"], one.get("errorCode")) for one in gateway.audit()]
    assert told == [
        ("CreateExperiment", None),
        ("CreateExperiment", "ValidationException"),
        ("CreateExperiment", "ValidationException"),
        ("CreateExperiment", "AccessDeniedException"),
    ]
