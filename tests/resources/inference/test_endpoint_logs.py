"""What the log of an endpoint tells of an invocation that failed, beside the container's own lines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import archive, wait_until

from .conftest import VARIABLES, Hosting, unique, variant

SCRIPT = """
def model_fn(folder):
    return None

def predict_fn(data, model):
    print("the model was asked", flush=True)
    raise ValueError("column 3 is no number")
"""


def test_a_failed_invocation_is_found_by_its_request_id_among_the_containers_lines(
    hosting: Hosting, client, server
):
    key = f"{unique('failing')}/model.tar.gz"
    packed = archive({"code/inference.py": SCRIPT})
    hosting.s3.put_object(Bucket=hosting.bucket, Key=key, Body=packed)
    model = hosting.model(
        "failing",
        PrimaryContainer={
            **hosting.container("failing"),
            "ModelDataUrl": f"s3://{hosting.bucket}/{key}",
            "Environment": VARIABLES,
        },
    )
    name = hosting.endpoint(hosting.config(variant(model, "main")))
    with pytest.raises(ClientError) as caught:
        hosting.runtime.invoke_endpoint(EndpointName=name, Body="1", ContentType="text/csv")
    answer: Any = caught.value.response
    request_id = answer["ResponseMetadata"]["RequestId"]
    logs = client("logs")
    group = f"/aws/sagemaker/Endpoints/{name}"

    def found():
        try:
            answer = logs.filter_log_events(logGroupName=group, filterPattern=f'"{request_id}"')
        except logs.exceptions.ResourceNotFoundException:
            return []  # its first lines are on their way
        return answer["events"]

    (event,) = wait_until(found)
    assert event["message"].startswith(f"RequestId: {request_id} primary answered 500: ")
    assert "column 3 is no number" in event["message"]
    stream = event["logStreamName"]
    assert stream.startswith("main/i-")

    def own():
        events = logs.get_log_events(logGroupName=group, logStreamName=stream)["events"]
        return [one for one in events if one["message"] == "the model was asked"]

    assert wait_until(own)
    specs = [json.loads(path.read_bytes()) for path in server.home.glob("work/*/g1/*/spec.json")]
    assert [spec["utilization"] for spec in specs if spec["log"]["group"] == group] == [
        {
            "namespace": "/aws/sagemaker/Endpoints",
            "dimensions": {"EndpointName": name, "VariantName": "main"},
        }
    ]
