"""Asynchronous inference of real endpoints, from the configuration to S3 and SQS."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import ROLE, wait_until
from tests.resources.inference.conftest import unique, variant

pytestmark = pytest.mark.xdist_group("endpoints")


def test_an_asynchronous_endpoint_answers_by_objects_and_topics(hosting, client):
    sns, sqs = client("sns"), client("sqs")
    topic = sns.create_topic(Name=unique("results"))["TopicArn"]
    url = sqs.create_queue(QueueName=unique("inbox"))["QueueUrl"]
    asked = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=asked["Attributes"]["QueueArn"],
        Attributes={"RawMessageDelivery": "true"},
    )  # fmt: skip
    output = {
        "S3OutputPath": f"s3://{hosting.bucket}/answers",
        "NotificationConfig": {"SuccessTopic": topic, "ErrorTopic": topic},
    }
    model = hosting.model("m")
    name = hosting.endpoint(
        hosting.config(variant(model), AsyncInferenceConfig={"OutputConfig": output})
    )
    assert hosting.described(name)["AsyncInferenceConfig"]["OutputConfig"] == output
    with pytest.raises(ClientError, match="does not support InvokeEndpoint"):
        hosting.invoke(name)
    hosting.s3.put_object(Bucket=hosting.bucket, Key="in/x", Body=b"payload")
    answer = hosting.runtime.invoke_endpoint_async(
        EndpointName=name,
        InputLocation=f"s3://{hosting.bucket}/in/x",
        ContentType="text/plain",
        InferenceId="n-1",
    )
    key = answer["OutputLocation"].removeprefix(f"s3://{hosting.bucket}/")

    def stored():
        found = hosting.s3.list_objects_v2(Bucket=hosting.bucket, Prefix=key)
        return found["KeyCount"]

    wait_until(stored)
    assert hosting.s3.get_object(Bucket=hosting.bucket, Key=key)["Body"].read() == b"m(payload)"
    told = []

    def heard():
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        told.extend(json.loads(one["Body"]) for one in found.get("Messages", []))
        return len(told) >= 2

    wait_until(heard)
    first, second = sorted(told, key=lambda one: one["eventName"], reverse=True)
    assert first["eventName"] == "TestNotification"
    assert (second["invocationStatus"], second["inferenceId"]) == ("Completed", "n-1")
    assert second["responseParameters"]["outputLocation"] == answer["OutputLocation"]


def test_a_topic_that_is_not_there_is_told_before_the_endpoint_is_made(hosting):
    topic = "arn:aws:sns:us-east-1:123456789012:none"
    output = {
        "S3OutputPath": f"s3://{hosting.bucket}/x",
        "NotificationConfig": {"ErrorTopic": topic},
    }
    config = hosting.config(
        variant(hosting.model("m")), AsyncInferenceConfig={"OutputConfig": output}
    )
    with pytest.raises(ClientError, match="does not exist"):
        hosting.sagemaker.create_endpoint(EndpointName=unique("e"), EndpointConfigName=config)


def test_a_pipeline_answers_asynchronously_and_what_must_be_chosen_is_refused(hosting):
    config = {"OutputConfig": {"S3OutputPath": f"s3://{hosting.bucket}/chained"}}
    several = [hosting.container(one, ContainerHostname=one) for one in ("one", "two")]
    chained = hosting.model("", Containers=several)
    name = hosting.endpoint(hosting.config(variant(chained), AsyncInferenceConfig=config))
    answer = hosting.runtime.invoke_endpoint_async(
        EndpointName=name, Body=b"x", ContentType="text/plain"
    )
    key = answer["OutputLocation"].removeprefix(f"s3://{hosting.bucket}/")
    wait_until(lambda: hosting.s3.list_objects_v2(Bucket=hosting.bucket, Prefix=key)["KeyCount"])
    assert hosting.s3.get_object(Bucket=hosting.bucket, Key=key)["Body"].read() == b"two(one(x))"

    direct = hosting.model("", Containers=several, InferenceExecutionConfig={"Mode": "Direct"})
    models = hosting.container("m", Mode="MultiModel", ModelDataUrl=f"s3://{hosting.bucket}/m/")
    components = {"VariantName": "A", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    for given, members, text in (
        (variant(direct), {}, "Mode is Direct"),
        (variant(hosting.model("", PrimaryContainer=models)), {}, "multi-model containers"),
        (components, {"ExecutionRoleArn": ROLE}, "inference components"),
    ):
        with pytest.raises(ClientError, match=text) as caught:
            hosting.sagemaker.create_endpoint(
                EndpointName=unique("e"),
                EndpointConfigName=hosting.config(given, AsyncInferenceConfig=config, **members),
            )
        assert caught.value.response["Error"]["Code"] == "ValidationException"
