"""Data capture of real endpoints, from the configuration to the files in S3."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import wait_until
from tests.resources.inference.conftest import variant

pytestmark = pytest.mark.xdist_group("endpoints")


def capture_config(hosting, **changes):
    return {
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{hosting.bucket}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/plain"]},
        **changes,
    }


def captured(hosting, name):
    """Every record that was written of an endpoint."""
    found = hosting.s3.list_objects_v2(Bucket=hosting.bucket, Prefix=f"captured/{name}/A/")
    keys = [one["Key"] for one in found.get("Contents", [])]
    bodies = [hosting.s3.get_object(Bucket=hosting.bucket, Key=key)["Body"].read() for key in keys]
    return [json.loads(line) for body in bodies for line in body.splitlines()]


def test_capture_is_switched_on_and_off_by_an_update(hosting):
    model = hosting.model("m")
    without = hosting.config(variant(model))
    with_capture = hosting.config(variant(model), DataCaptureConfig=capture_config(hosting))
    described = hosting.sagemaker.describe_endpoint_config(EndpointConfigName=with_capture)
    assert described["DataCaptureConfig"]["EnableCapture"] is True
    name = hosting.endpoint(without)
    assert "DataCaptureConfig" not in hosting.described(name)
    hosting.invoke(name, "before")
    hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=with_capture)
    shown = hosting.in_service(name)["DataCaptureConfig"]
    assert (shown["CaptureStatus"], shown["CurrentSamplingPercentage"]) == ("Started", 100)
    hosting.invoke(name, "during", InferenceId="n-1")
    (record,) = wait_until(lambda: captured(hosting, name), 30)
    sides = record["captureData"]
    assert (sides["endpointInput"]["data"], sides["endpointInput"]["encoding"]) == ("during", "CSV")
    assert sides["endpointOutput"]["data"] == "m(during)"
    assert record["eventMetadata"]["inferenceId"] == "n-1"
    hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=without)
    assert "DataCaptureConfig" not in hosting.in_service(name)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"DestinationS3Uri": "https://example.com/x"}, "s3://"),
        (
            {
                "CaptureContentTypeHeader": {
                    "CsvContentTypes": ["text/csv"],
                    "JsonContentTypes": ["text/csv"],
                }
            },
            "both",
        ),
    ],
)
def test_a_capture_that_could_not_work_is_refused(hosting, changes, words):
    with pytest.raises(ClientError, match=words):
        hosting.config(
            variant(hosting.model("m")), DataCaptureConfig=capture_config(hosting, **changes)
        )
