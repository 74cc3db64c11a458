"""Whatever a client sends, parsing ends in an input or in an ApiError."""

from __future__ import annotations

import random
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.model.errors import ApiError
from clary.wire.cbor import dumps
from clary.wire.http import Request
from clary.wire.protocols import ServiceWire
from tests.wire.samples import model, request_by_botocore, sample

WIRES = {
    name: ServiceWire(model(name))
    for name in ("sagemaker", "cloudwatch", "sts", "ec2", "lambda", "s3", "sagemaker-runtime")
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["Tags", "Key", "ModelName", "PrimaryContainer", "Environment"]), inner
        )
    ),
    max_leaves=12,
)
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


def survives(service: str, request: Request) -> None:
    protocol = WIRES[service].protocol(request)
    try:
        operation, found = protocol.parse(request)
    except ApiError as error:
        assert 400 <= error.status < 500
        protocol.serialise_error(None, error, "r")
    else:
        assert isinstance(found, dict)
        assert operation.name


@given(JSON)
@settings(max_examples=150, deadline=None)
def test_any_json_is_read_or_refused(tree: Any) -> None:
    body = orjson.dumps(tree, default=str) if not huge(tree) else b"1" * 5000
    survives("sagemaker", Request("POST", "/", "", {"x-amz-target": "SageMaker.CreateModel"}, body))


def huge(tree: Any) -> bool:
    """Integers beyond 64 bits, which orjson does not write."""
    if isinstance(tree, list):
        return any(map(huge, tree))
    if isinstance(tree, dict):
        return any(map(huge, tree.values()))
    return isinstance(tree, int) and not -(2**63) <= tree < 2**64


@given(st.dictionaries(st.sampled_from(["AlarmNames", "MetricData", "Namespace"]), JSON))
@settings(max_examples=80, deadline=None)
def test_any_cbor_is_read_or_refused(tree: Any) -> None:
    try:
        body = dumps(tree)
    except ValueError:
        return
    path = "/service/GraniteServiceVersion20100801/operation/PutMetricData"
    survives("cloudwatch", Request("POST", path, "", {"smithy-protocol": "rpc-v2-cbor"}, body))


@given(
    st.sampled_from(["sts", "ec2", "cloudwatch"]),
    st.dictionaries(
        st.from_regex(r"\A(Tags|Filter|MetricData)(\.(member|entry|[0-9]{1,11}|Key|Value)){0,4}\Z"),
        TEXT,
        max_size=6,
    ),
)
@settings(max_examples=100, deadline=None)
def test_any_form_is_read_or_refused(service: str, fields: dict[str, str]) -> None:
    action = {"sts": "AssumeRole", "ec2": "DescribeVpcs", "cloudwatch": "PutMetricData"}[service]
    body = urlencode({"Action": action, **fields}).encode()
    survives(service, Request("POST", "/", "", {}, body))


@given(
    st.sampled_from(["lambda", "s3", "sagemaker-runtime"]),
    st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "BREW"]),
    TEXT,
    TEXT,
    st.binary(max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_any_path_query_and_body_is_read_or_refused(
    service: str, method: str, path: str, query: str, body: bytes
) -> None:
    survives(service, Request(method, f"/{path}", query, {}, body))


@pytest.mark.parametrize(
    ("service", "protocol", "operation"),
    [
        ("sagemaker", "json", "CreateTrainingJob"),
        ("cloudwatch", "smithy-rpc-v2-cbor", "PutMetricAlarm"),
        ("cloudwatch", "query", "PutMetricAlarm"),
        ("ec2", "ec2", "RunInstances"),
        ("lambda", "rest-json", "CreateFunction"),
        ("s3", "rest-xml", "PutBucketLifecycleConfiguration"),
        ("s3", "rest-xml", "PutObject"),
    ],
)
def test_a_damaged_request_is_read_or_refused(service: str, protocol: str, operation: str) -> None:
    found = model(service).operation_model(operation)
    whole = request_by_botocore(protocol, found, sample(found.input_shape, full=True))
    chance = random.Random(7)
    for _ in range(60):
        body = bytearray(whole.body)
        for _ in range(chance.randint(1, 4)):
            if body:
                body[chance.randrange(len(body))] = chance.randrange(256)
        headers = {
            name: "".join(chance.sample(text, len(text))) if chance.random() < 0.2 else text
            for name, text in whole.headers.items()
        }
        survives(service, Request(whole.method, whole.path, whole.query, headers, bytes(body)))


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b"<a>" * 100_000,
        b"<?xml version='1.0' encoding='no-such'?><a/>",
        b"<Tagging><TagSet>",
        b"",
    ],
)
def test_xml_that_is_not_well_formed_is_refused(body: bytes) -> None:
    survives("s3", Request("PUT", "/bucket", "tagging", {}, body))


def test_names_and_numbers_of_absurd_size_are_refused() -> None:
    deep = b"Action=PutMetricData&" + b"a." * 5000 + b"b=1"
    survives("cloudwatch", Request("POST", "/", "", {}, deep))
    many = b"&".join(b"x%d=1" % number for number in range(100_001))
    survives("cloudwatch", Request("POST", "/", "", {}, b"Action=PutMetricData&" + many))
    digits = b"Action=DescribeAlarms&MaxRecords=" + b"9" * 100_000
    survives("cloudwatch", Request("POST", "/", "", {}, digits))
