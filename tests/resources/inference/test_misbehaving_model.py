"""A model that answers in chunks, prints, crashes and cannot be loaded: what its clients and its author see."""

from __future__ import annotations

import time

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import archive, wait_until
from tests.resources.inference.conftest import VARIABLES, Hosting, Load, unique, variant

pytestmark = pytest.mark.xdist_group("endpoints")

SCRIPT = """
import os

print("the script was imported")

def model_fn(folder):
    print("the model was loaded")
    return "x"

def input_fn(body, content_type):
    return body if isinstance(body, str) else body.decode()

def predict_fn(body, model):
    print("asked for " + body)
    if body.startswith("crash"):
        os._exit(9)
    if body.startswith("chunks"):
        return (part for part in ("one ", "two ", "three"))
    return body

def output_fn(said, accept):
    return said, "text/plain"
"""


def model(hosting: Hosting, script: str) -> str:
    key = f"{unique('misbehaving')}/model.tar.gz"
    packed = archive({"code/inference.py": script})
    hosting.s3.put_object(Bucket=hosting.bucket, Key=key, Body=packed)
    url = f"s3://{hosting.bucket}/{key}"
    container = {**hosting.container("x"), "ModelDataUrl": url, "Environment": VARIABLES}
    return hosting.model("", PrimaryContainer=container)


def lines(logs, name: str) -> list[str]:
    try:
        found = logs.filter_log_events(logGroupName=f"/aws/sagemaker/Endpoints/{name}")
    except logs.exceptions.ResourceNotFoundException:
        return []  # its first lines are on their way
    return [one["message"] for one in found["events"]]


def test_a_crash_costs_its_own_request_and_what_the_model_printed_is_there(hosting, client):
    name = hosting.endpoint(hosting.config(variant(model(hosting, SCRIPT))))
    for _ in range(3):
        assert hosting.invoke(name, "chunks") == "one two three"
    hosting.invoke(name, "x")
    logs = client("logs")
    expected = {"the script was imported", "the model was loaded", "asked for x"}
    wait_until(lambda: expected <= set(lines(logs, name)), 20)
    with Load(hosting, name) as load:
        for _ in range(2):
            with pytest.raises(ClientError, match="closed before it had answered"):
                hosting.invoke(name, "crash")
            before = sum(load.said.values())
            wait_until(lambda before=before: sum(load.said.values()) > before + 10, 20)
    assert load.failures == []
    assert set(load.said) == {"x"}
    wait_until(lambda: lines(logs, name).count("asked for crash") == 2, 20)
    assert "ERROR clary.serving: A serving process ended with exit code 9." in lines(logs, name)


def test_a_batch_transform_takes_what_a_model_answers_in_chunks(hosting):
    source, name = unique("in"), unique("transform")
    hosting.s3.put_object(Bucket=hosting.bucket, Key=f"{source}/a.csv", Body=b"chunks\nx\n")
    hosting.sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=model(hosting, SCRIPT),
        BatchStrategy="SingleRecord",
        TransformInput={
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": f"s3://{hosting.bucket}/{source}/",
                }
            },
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={
            "S3OutputPath": f"s3://{hosting.bucket}/{name}",
            "AssembleWith": "Line",
        },
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )

    def ended():
        found = hosting.sagemaker.describe_transform_job(TransformJobName=name)
        return found if found["TransformJobStatus"] in ("Completed", "Failed") else None

    found = wait_until(ended)
    assert found["TransformJobStatus"] == "Completed", found.get("FailureReason")
    written = hosting.s3.get_object(Bucket=hosting.bucket, Key=f"{name}/a.csv.out")
    assert written["Body"].read().split(b"\n")[0] == b"one two three"


BROKEN = """
import json

def read():
    return json.loads("{")

def model_fn(folder):
    return read()
"""


def test_the_reason_of_a_model_that_cannot_be_loaded_shows_its_own_lines_alone(hosting, client):
    began = time.monotonic()
    name = unique("endpoint")
    config = hosting.config(variant(model(hosting, BROKEN)))
    hosting.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    found = wait_until(
        lambda: (one := hosting.described(name))["EndpointStatus"] == "Failed" and one
    )
    reason = found["FailureReason"]
    assert "The server ended with exit code 1. It was started 3 times. Last log lines: " in reason
    assert "in read | return json.loads" in reason
    assert "JSONDecodeError: Expecting property name" in reason.rpartition(" | ")[2]
    assert "/clary/" not in reason
    assert "importlib" not in reason
    assert time.monotonic() - began < 30
    logs = client("logs")
    wait_until(lambda: any("started 3 times" in line for line in lines(logs, name)), 20)
    hosting.sagemaker.delete_endpoint(EndpointName=name)
