"""Errors as botocore reads them, in every protocol."""

from __future__ import annotations

import orjson
import pytest

from clary.model.errors import ApiError, ResourceNotFound, ValidationException
from clary.wire.protocols import ServiceWire
from tests.wire.samples import answer_to_botocore, model

EVERY = [
    ("sagemaker", "json", "CreateModel"),
    ("sagemaker-runtime", "rest-json", "InvokeEndpoint"),
    ("s3", "rest-xml", "PutObject"),
    ("sts", "query", "AssumeRole"),
    ("ec2", "ec2", "DescribeVpcs"),
    ("cloudwatch", "json", "GetMetricData"),
    ("cloudwatch", "query", "GetMetricData"),
    ("cloudwatch", "smithy-rpc-v2-cbor", "GetMetricData"),
    ("lambda", "rest-json", "CreateFunction"),
]


@pytest.mark.parametrize(("service", "protocol", "name"), EVERY)
def test_an_error_the_model_does_not_know_keeps_its_code_and_message(
    service: str, protocol: str, name: str
) -> None:
    operation = model(service).operation_model(name)
    error = ApiError('Cannot create existing "<arn>".', code="Unmodelled", status=400)
    wire = ServiceWire(model(service)).named(protocol)
    for known in (operation, None):
        response = wire.serialise_error(known, error, "request-1")
        parsed = answer_to_botocore(protocol, operation, response)
        assert response.status == 400
        assert parsed["Error"]["Code"] == "Unmodelled"
        assert parsed["Error"]["Message"] == 'Cannot create existing "<arn>".'
        assert parsed["ResponseMetadata"]["RequestId"] == "request-1"


@pytest.mark.parametrize(
    ("service", "protocol"),
    sorted({(service, protocol) for service, protocol, _ in EVERY}),
)
def test_every_error_shape_is_recognised_by_botocore(service: str, protocol: str) -> None:
    wire = ServiceWire(model(service)).named(protocol)
    for shape in model(service).error_shapes:
        operation = next(
            (
                found
                for name in model(service).operation_names
                if shape in (found := model(service).operation_model(name)).error_shapes
            ),
            model(service).operation_model(model(service).operation_names[0]),
        )
        if operation.http.get("method") == "HEAD":
            continue
        response = wire.serialise_error(operation, ApiError("No.", code=shape.name), "request-1")
        parsed = answer_to_botocore(protocol, operation, response)
        assert parsed["Error"]["Code"] == shape.error_code
        assert parsed["Error"]["Message"] == "No."
        modelled = answer_to_botocore(protocol, operation, response, shape)
        message = next((name for name in shape.members if name.lower() == "message"), None)
        # The query protocol always says <Message>, which botocore's shapes may spell otherwise.
        if message is not None and (protocol != "query" or message == "Message"):
            assert modelled[message] == "No."


def test_the_message_of_a_modelled_json_error_is_spelt_as_in_the_model() -> None:
    wire = ServiceWire(model("sagemaker")).named("json")
    operation = model("sagemaker").operation_model("DescribeTrialComponent")
    response = wire.serialise_error(operation, ResourceNotFound("Gone."), "request-1")
    assert orjson.loads(response.body) == {"__type": "ResourceNotFound", "Message": "Gone."}
    assert response.headers["Content-Type"] == "application/x-amz-json-1.1"
    assert response.status == 400


def test_a_model_error_takes_its_status_and_members_from_the_model() -> None:
    wire = ServiceWire(model("sagemaker-runtime")).named("rest-json")
    operation = model("sagemaker-runtime").operation_model("InvokeEndpoint")
    error = ApiError("Broken.", code="ModelError", OriginalStatusCode=500, OriginalMessage="boom")
    response = wire.serialise_error(operation, error, "request-1")
    assert response.status == 424
    assert response.headers["x-amzn-ErrorType"] == "ModelError"
    shape = model("sagemaker-runtime").shape_for("ModelError")
    parsed = answer_to_botocore("rest-json", operation, response, shape)
    assert parsed == {"Message": "Broken.", "OriginalStatusCode": 500, "OriginalMessage": "boom"}


def test_a_status_that_the_raiser_gives_wins_over_the_models() -> None:
    wire = ServiceWire(model("sagemaker-runtime")).named("rest-json")
    error = ApiError("Broken.", code="ModelError", status=418)
    assert wire.serialise_error(None, error, "request-1").status == 418


def test_a_defect_stays_an_internal_failure() -> None:
    for service, protocol, name in EVERY:
        operation = model(service).operation_model(name)
        wire = ServiceWire(model(service)).named(protocol)
        response = wire.serialise_error(operation, ApiError("Oops."), "request-1")
        assert response.status == 500
        parsed = answer_to_botocore(protocol, operation, response)
        assert parsed["Error"]["Code"] == "InternalFailure"


def test_query_compatible_services_name_the_code_of_the_query_protocol() -> None:
    error = ApiError("No queue.", code="QueueDoesNotExist")
    wire = ServiceWire(model("sqs")).named("json")
    response = wire.serialise_error(None, error, "request-1")
    expected = "AWS.SimpleQueueService.NonExistentQueue;Sender"
    assert response.headers["x-amzn-query-error"] == expected
    assert orjson.loads(response.body)["__type"] == "QueueDoesNotExist"
    alarm = ApiError("Bad.", code="InvalidParameterValue")
    for protocol in ("json", "smithy-rpc-v2-cbor"):
        wire = ServiceWire(model("cloudwatch")).named(protocol)
        response = wire.serialise_error(None, alarm, "request-1")
        assert response.headers["x-amzn-query-error"] == "InvalidParameterValue;Sender"
        assert b"InvalidParameterValueException" in response.body


def test_iam_answers_a_missing_role_with_404_and_the_short_code() -> None:
    operation = model("iam").operation_model("GetRole")
    wire = ServiceWire(model("iam")).named("query")
    response = wire.serialise_error(operation, ApiError("No role.", code="NoSuchEntity"), "r")
    assert response.status == 404
    parsed = answer_to_botocore("query", operation, response)["Error"]
    assert parsed == {"Type": "Sender", "Code": "NoSuchEntity", "Message": "No role."}


def test_s3_errors_carry_their_extra_members() -> None:
    operation = model("s3").operation_model("GetObject")
    wire = ServiceWire(model("s3")).named("rest-xml")
    error = ApiError("The specified key does not exist.", code="NoSuchKey", Key="a&b")
    response = wire.serialise_error(operation, error, "request-1")
    assert response.status == 404
    assert response.headers["x-amz-request-id"] == "request-1"
    parsed = answer_to_botocore("rest-xml", operation, response)
    assert parsed["Error"] == {
        "Code": "NoSuchKey",
        "Message": "The specified key does not exist.",
        "Key": "a&b",
    }


def test_an_error_of_a_head_request_has_no_body() -> None:
    operation = model("s3").operation_model("HeadObject")
    wire = ServiceWire(model("s3")).named("rest-xml")
    response = wire.serialise_error(operation, ApiError("No.", code="404", status=404), "r")
    assert (response.status, response.body) == (404, b"")


def test_members_of_an_error_that_no_format_knows_are_written_as_text() -> None:
    error = ValidationException("No.", Where={"at": [object, b"x"]}, Count=3)
    for service, protocol, name in EVERY:
        operation = model(service).operation_model(name)
        response = (
            ServiceWire(model(service)).named(protocol).serialise_error(operation, error, "r")
        )
        assert answer_to_botocore(protocol, operation, response)["Error"]["Message"] == "No."
