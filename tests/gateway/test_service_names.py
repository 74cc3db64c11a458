"""A request is for the service it was signed for, and among SageMaker's own for the one of its path."""

from __future__ import annotations

import pytest

from clary.gateway.service_names import service_of
from clary.wire.http import Request

SCOPE = "AWS4-HMAC-SHA256 Credential=AK/20260101/eu-west-1/{}/aws4_request, SignedHeaders=host, Signature=0"


def request(service: str, path: str = "/", **headers: str) -> Request:
    return Request("POST", path, "", {"authorization": SCOPE.format(service), **headers})


@pytest.mark.parametrize(
    ("signed", "service"),
    [("iam", "iam"), ("monitoring", "cloudwatch"), ("states", "stepfunctions"), ("email", "ses")],
)
def test_the_credential_scope_names_the_service(signed: str, service: str) -> None:
    assert service_of(request(signed)) == (service, "eu-west-1")


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/endpoints/e/invocations", "sagemaker-runtime"),
        ("/FeatureGroup/g", "sagemaker-featurestore-runtime"),
        ("/BatchGetRecord", "sagemaker-featurestore-runtime"),
        ("/BatchPutMetrics", "sagemaker-metrics"),
        ("/human-loops", "sagemaker-a2i-runtime"),
        ("/GetDeviceRegistration", "sagemaker-edge"),
        ("/", "sagemaker"),
    ],
)
def test_services_that_sign_as_sagemaker_differ_by_path(path: str, service: str) -> None:
    assert service_of(request("sagemaker", path)) == (service, "eu-west-1")


def test_a_target_is_stronger_than_a_path() -> None:
    found = service_of(request("sagemaker", "/endpoints/e", **{"x-amz-target": "SageMaker.X"}))
    assert found == ("sagemaker", "eu-west-1")


def test_an_unsigned_request_is_for_no_service() -> None:
    assert service_of(Request("GET", "/", "", {})) == ("", "")
