"""Which protocol and operation a request means, and what is dropped, accepted and refused."""

from __future__ import annotations

import gzip
import math
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from typing import Any

import orjson
import pytest

from clary.model.errors import ApiError, UnknownOperationException
from clary.wire.bodies import BODY_BYTES_MAX
from clary.wire.cbor import dumps
from clary.wire.http import Request
from clary.wire.protocols import ServiceWire
from tests.wire.samples import model, request_by_botocore, sample


def json_request(target: str, body: Any, **headers: str) -> Request:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return Request("POST", "/", "", {"x-amz-target": target, **headers}, data)


def parse(service: str, request: Request) -> tuple[str, dict[str, Any]]:
    operation, found = ServiceWire(model(service)).protocol(request).parse(request)
    return operation.name, found


def refused(service: str, request: Request) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(service, request)
    return caught.value


def test_cloudwatch_is_understood_in_its_three_protocols() -> None:
    prefix = "GraniteServiceVersion20100801"
    expected = ("DeleteAlarms", {"AlarmNames": ["a", "b"]})
    by_json = json_request(f"{prefix}.DeleteAlarms", {"AlarmNames": ["a", "b"]})
    form = b"Action=DeleteAlarms&AlarmNames.member.2=b&AlarmNames.member.1=a"
    kind = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    by_form = Request("POST", "/", "", kind, form)
    by_url = Request("GET", "/", form.decode(), {})
    by_cbor = Request(
        "POST",
        f"/service/{prefix}/operation/DeleteAlarms",
        "",
        {"smithy-protocol": "rpc-v2-cbor"},
        dumps({"AlarmNames": ["a", "b"]}),
    )
    for request in (by_json, by_form, by_url, by_cbor):
        assert parse("cloudwatch", request) == expected


@pytest.mark.parametrize(
    ("service", "request_", "code"),
    [
        ("sagemaker", json_request("SageMaker.Nothing", {}), "UnknownOperationException"),
        ("sagemaker", Request("POST", "/", "", {}, b"{}"), "UnknownOperationException"),
        ("sts", Request("POST", "/", "", {}, b"Action=Nothing"), "InvalidAction"),
        ("sts", Request("POST", "/", "", {}, b""), "MissingAction"),
        ("lambda", Request("GET", "/nowhere", "", {}), "UnknownOperationException"),
        (
            "cloudwatch",
            Request("POST", "/service/x/operation/No", "", {"smithy-protocol": "rpc-v2-cbor"}),
            "UnknownOperationException",
        ),
    ],
)
def test_an_unknown_operation_is_named_as_such(service: str, request_: Request, code: str) -> None:
    error = refused(service, request_)
    assert isinstance(error, UnknownOperationException)
    assert error.code == code


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"ModelName": 1}, "NUMBER_VALUE can not be converted to a String"),
        ({"ModelName": True}, "TRUE_VALUE can not be converted to a String"),
        ({"ModelName": ["x"]}, "Start of list found where not expected"),
        ({"ModelName": {}}, "Start of structure or map found where not expected."),
        ({"Containers": "x"}, "Expected list or null"),
        ({"PrimaryContainer": "x"}, "Expected null"),
        ({"EnableNetworkIsolation": "x"}, "STRING_VALUE can not be converted to a Boolean"),
    ],
)
def test_a_member_of_the_wrong_type_is_refused_in_the_words_of_aws(
    members: dict[str, Any], message: str
) -> None:
    error = refused("sagemaker", json_request("SageMaker.CreateModel", members))
    assert (error.code, error.status, error.message) == ("SerializationException", 400, message)


def test_a_number_in_a_string_is_not_an_integer() -> None:
    error = refused("sagemaker", json_request("SageMaker.ListModels", {"MaxResults": "1"}))
    assert error.message == "STRING_VALUE can not be converted to an Integer"


@pytest.mark.parametrize("body", [b"", b"{", b"null", b'"x"', b"[]", b"\xff", b'{"a":1,}'])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    assert refused("sagemaker", json_request("SageMaker.ListModels", body)).code == (
        "SerializationException"
    )


def test_null_and_unknown_members_are_as_if_absent() -> None:
    request = json_request("SageMaker.ListModels", {"MaxResults": None, "Foo": 1, "__type": "x"})
    assert parse("sagemaker", request) == ("ListModels", {})


def test_json_timestamps_may_be_numbers_or_iso_text() -> None:
    expected = datetime(2024, 5, 1, 10, 0, 0, 500_000, UTC)
    for value in (1714557600.5, "2024-05-01T10:00:00.5Z", "2024-05-01T12:00:00.500+02:00"):
        request = json_request("SageMaker.ListModels", {"CreationTimeAfter": value})
        assert parse("sagemaker", request)[1] == {"CreationTimeAfter": expected}
    for value in ("soon", "", 1e30, True):
        request = json_request("SageMaker.ListModels", {"CreationTimeAfter": value})
        assert refused("sagemaker", request).code == "SerializationException"


def test_special_floats_are_words_in_json() -> None:
    wire = ServiceWire(model("application-autoscaling"))
    request = json_request(
        "AnyScaleFrontendService.PutScalingPolicy",
        {"TargetTrackingScalingPolicyConfiguration": {"TargetValue": "-Infinity"}},
    )
    _, found = wire.protocol(request).parse(request)
    assert found["TargetTrackingScalingPolicyConfiguration"] == {"TargetValue": -math.inf}
    operation = model("application-autoscaling").operation_model("DescribeScalingPolicies")
    policy = {"TargetTrackingScalingPolicyConfiguration": {"TargetValue": math.nan}}
    response = wire.named("json").serialise(operation, {"ScalingPolicies": [policy]}, "r")
    assert b'"TargetValue":"NaN"' in response.body


def test_a_gzip_body_is_read_and_a_bomb_is_refused() -> None:
    packed = gzip.compress(b'{"MaxResults":3}')
    kind = {"content-encoding": "gzip"}
    assert parse("sagemaker", json_request("SageMaker.ListModels", packed, **kind))[1] == {
        "MaxResults": 3
    }
    broken = json_request("SageMaker.ListModels", packed[:-3], **kind)
    assert refused("sagemaker", broken).code == "SerializationException"
    bomb = gzip.compress(bytes(BODY_BYTES_MAX + 1), compresslevel=1)
    assert refused("sagemaker", json_request("SageMaker.ListModels", bomb, **kind)).status == 413


def test_an_object_that_is_stored_compressed_stays_compressed() -> None:
    packed = gzip.compress(b"data")
    request = Request("PUT", "/bucket/key", "", {"content-encoding": "gzip"}, packed)
    name, found = parse("s3", request)
    assert (name, found["Body"], found["ContentEncoding"]) == ("PutObject", packed, "gzip")


def test_a_shape_that_holds_itself_is_bounded_by_an_error() -> None:
    deep = b'{"SearchExpression":' + b'{"SubExpressions":[' * 480 + b"]}" * 480 + b"}"
    error = refused("sagemaker", json_request("SageMaker.Search", deep))
    assert error.code == "SerializationException"


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "operation"),
    [
        ("GET", "/", "", {}, "ListBuckets"),
        ("GET", "/bucket", "list-type=2&prefix=a", {}, "ListObjectsV2"),
        ("GET", "/bucket/", "", {}, "ListObjects"),
        ("GET", "/bucket", "uploads", {}, "ListMultipartUploads"),
        ("GET", "/bucket/a/b%20c/", "", {}, "GetObject"),
        ("GET", "/bucket/key", "uploadId=1", {}, "ListParts"),
        ("PUT", "/bucket/key", "", {"x-amz-copy-source": "/b/k"}, "CopyObject"),
        ("PUT", "/bucket/key", "partNumber=1&uploadId=1", {}, "UploadPart"),
        (
            "PUT",
            "/bucket/key",
            "partNumber=1&uploadId=1",
            {"x-amz-copy-source": "/b/k"},
            "UploadPartCopy",
        ),
        ("POST", "/bucket/key", "uploads=", {}, "CreateMultipartUpload"),
        ("POST", "/bucket/key", "uploadId=1", {}, "CompleteMultipartUpload"),
        ("DELETE", "/bucket/key", "uploadId=1", {}, "AbortMultipartUpload"),
        ("DELETE", "/bucket/key", "", {}, "DeleteObject"),
        ("HEAD", "/bucket/key", "", {}, "HeadObject"),
        ("GET", "/bucket", "lifecycle", {}, "GetBucketLifecycleConfiguration"),
    ],
)
def test_s3_tells_its_operations_apart(
    method: str, path: str, query: str, headers: dict[str, str], operation: str
) -> None:
    request = Request(method, path, query, headers)
    assert ServiceWire(model("s3")).protocol(request).operation(request).name == operation


def test_a_label_may_hold_an_escaped_slash_and_a_key_ends_in_one() -> None:
    arn = "/2015-03-31/functions/arn%3Aaws%3Alambda%2Fx"
    assert parse("lambda", Request("GET", arn, "", {}))[1]["FunctionName"] == "arn:aws:lambda/x"
    assert parse("s3", Request("GET", "/b/a/%C3%A9/", "", {}))[1]["Key"] == "a/é/"


def test_a_missing_required_parameter_is_left_to_validation() -> None:
    name, found = parse(
        "sagemaker-featurestore-runtime", Request("GET", "/FeatureGroup/group-1", "", {})
    )
    assert (name, found) == ("GetRecord", {"FeatureGroupName": "group-1"})


def test_an_output_with_a_member_the_shape_lacks_is_a_defect() -> None:
    for service, protocol, name in (
        ("sagemaker", "json", "DescribeModel"),
        ("sts", "query", "AssumeRole"),
        ("lambda", "rest-json", "GetFunction"),
        ("s3", "rest-xml", "ListObjectsV2"),
        ("s3", "rest-xml", "DeleteBucket"),
        ("sagemaker-runtime", "rest-json", "InvokeEndpoint"),
        ("cloudwatch", "smithy-rpc-v2-cbor", "GetMetricData"),
    ):
        operation = model(service).operation_model(name)
        with pytest.raises(ValueError, match="Nonsense"):
            ServiceWire(model(service)).named(protocol).serialise(operation, {"Nonsense": 1}, "r")


def test_an_output_of_the_wrong_type_names_the_member() -> None:
    operation = model("sagemaker").operation_model("DescribeModel")
    wire = ServiceWire(model("sagemaker")).named("json")
    for value in (7, "2024-05-01", True, datetime(2024, 5, 1)):
        member = "ModelName" if value == 7 else "CreationTime"
        with pytest.raises(ValueError, match=f"DescribeModelOutput.{member}"):
            wire.serialise(operation, {member: value}, "r")


def test_timestamps_of_an_answer_may_be_datetimes_or_epochs() -> None:
    operation = model("sagemaker").operation_model("DescribeModel")
    wire = ServiceWire(model("sagemaker")).named("json")
    for value in (datetime(2024, 5, 1, 10, 0, 0, 500_400, UTC), 1714557600.5004):
        response = wire.serialise(operation, {"CreationTime": value, "ModelArn": None}, "r-1")
        assert response.body == b'{"CreationTime":1714557600.5}'
        assert response.headers["x-amzn-RequestId"] == "r-1"


def test_the_location_of_a_bucket_is_the_root_of_its_answer() -> None:
    operation = model("s3").operation_model("GetBucketLocation")
    wire = ServiceWire(model("s3")).named("rest-xml")
    response = wire.serialise(operation, {"LocationConstraint": "eu-west-1"}, "r")
    namespace = b'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    assert b"<LocationConstraint " + namespace + b">eu-west-1</LocationConstraint>" in response.body


def test_a_header_cannot_be_split_by_a_line_break() -> None:
    operation = model("sagemaker-runtime").operation_model("InvokeEndpoint")
    wire = ServiceWire(model("sagemaker-runtime")).named("rest-json")
    with pytest.raises(ValueError, match="control characters"):
        wire.serialise(operation, {"Body": b"", "CustomAttributes": "a\r\nSet-Cookie: x"}, "r")


def test_threads_that_ask_first_at_once_get_whole_plans() -> None:
    operation = model("sagemaker").operation_model("CreateTrainingJob")
    given = sample(operation.input_shape, full=True)
    request = request_by_botocore("json", operation, given)
    wire = ServiceWire(model("sagemaker"))
    barrier = Barrier(8)

    def ask(_number: int) -> dict[str, Any]:
        barrier.wait(10)
        return wire.protocol(request).parse(request)[1]

    with ThreadPoolExecutor(8) as pool:
        assert all(found == given for found in pool.map(ask, range(8)))


def test_a_document_type_in_xml_is_refused() -> None:
    body = b'<!DOCTYPE x [<!ENTITY a "b">]><Tagging><TagSet/></Tagging>'
    error = refused("s3", Request("PUT", "/bucket", "tagging", {}, body))
    assert (error.code, error.status) == ("MalformedXML", 400)
