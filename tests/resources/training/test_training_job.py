"""Members of CreateTrainingJob with an effect, and those that are refused."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import python_job
from tests.resources.training.conftest import channel, resources

WRITES = """
import os, pathlib
pathlib.Path("/opt/ml/model/deep").mkdir()
pathlib.Path("/opt/ml/model/deep/m").write_text("model")
pathlib.Path("/opt/ml/output/data/d").write_text("data")
pathlib.Path("/opt/ml/output/tensorboard/events").write_text("events")
print("loss=0.5;", os.environ["COLOUR"], flush=True)
print("loss=0.25;", flush=True)
print("loss=nan;", flush=True)
"""


def keys_of(training, uri: str) -> list[str]:
    prefix = uri.split("/", 3)[3]
    found = training.s3.list_objects_v2(Bucket=training.bucket, Prefix=prefix)
    return sorted(one["Key"].removeprefix(prefix) for one in found.get("Contents", []))


def test_loose_encrypted_output_tags_metrics_and_variables(training):
    folder = training.put({"out/.keep": ""}) + "/out"
    definitions = [
        {"Name": "loss", "Regex": "loss=(.*?);"},
        {"Name": "broken", "Regex": "loss=("},
        {"Name": "never", "Regex": "accuracy=(.*?);"},
    ]
    specification = python_job("any", "pass")["AlgorithmSpecification"]
    job = training.run(
        WRITES,
        AlgorithmSpecification={**specification, "MetricDefinitions": definitions},
        Environment={"CODE": WRITES, "COLOUR": "red"},
        OutputDataConfig={
            "S3OutputPath": folder,
            "CompressionType": "NONE",
            "KmsKeyId": "alias/mine",
        },
        Tags=[{"Key": "team", "Value": "blue"}],
        TensorBoardOutputConfig={"S3OutputPath": folder},
        RemoteDebugConfig={"EnableRemoteDebug": True},
        InfraCheckConfig={"EnableInfraCheck": False},
    )
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    name = job["TrainingJobName"]
    artifacts = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert artifacts == f"{folder}/{name}/output/model/"
    assert keys_of(training, artifacts) == ["deep/m"]
    assert keys_of(training, f"{folder}/{name}/output/data/") == ["d"]
    assert keys_of(training, f"{folder}/{name}/tensorboard-output/") == ["events"]
    head = training.s3.head_object(
        Bucket=training.bucket, Key=f"{artifacts.split('/', 3)[3]}deep/m"
    )
    assert head["ServerSideEncryption"] == "aws:kms"
    assert "mine" in head["SSEKMSKeyId"]
    assert "loss=0.5; red" in training.lines(name)
    assert any("'broken'" in line for line in training.lines(name))
    (final,) = job["FinalMetricDataList"]
    assert (final["MetricName"], final["Value"]) == ("loss", 0.25)
    tags = training.sagemaker.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
    assert tags == [{"Key": "team", "Value": "blue"}]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"SessionChainingConfig": {"EnableSessionTagChaining": True}},
            "a job's role has no session tags",
        ),
        (
            {"TensorBoardOutputConfig": {"S3OutputPath": "s3://b/t", "LocalPath": "/tmp/t"}},
            "must be below /opt/ml",
        ),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 2_419_201}}, "at most 2419200"),
        ({"ResourceConfig": resources(21)}, "service limit"),
        ({"Environment": {"CODE": "pass", "A": "x" * 513}}, "less than or equal to 512"),
    ],
)
def test_what_cannot_be_honoured_is_refused(training, changes, text):
    with pytest.raises(ClientError, match=text):
        training.start("pass", **changes)


def test_channels_must_have_different_names(training):
    folder = training.put({"a": "A"})
    with pytest.raises(ClientError, match="Duplicate channel name 'train'"):
        training.start("pass", InputDataConfig=[channel("train", folder)] * 2)
