"""The AWS command line, as in shell scripts and in documentation."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import ACCOUNT, REGION, ROLE, SKLEARN, archive, wait_until

pytestmark = pytest.mark.xdist_group("aws_cli")

HANDLERS = """
import json
def model_fn(model_dir): return 3
def predict_fn(rows, model): return [model * value for value in rows]
def input_fn(body, content_type): return json.loads(body)
def output_fn(values, accept): return json.dumps(values)
"""

Aws = Callable[..., Any]


@pytest.fixture
def aws(run) -> Aws:
    """`aws ...`: what it printed, parsed where it is JSON; `fails=True` wants a failure and gives its message."""

    def aws(*words: str, fails: bool = False) -> Any:
        answer = run("awscli", "aws", *words)
        assert (answer.returncode != 0) == fails, f"{words}: {answer.stdout}{answer.stderr}"
        if fails:
            return answer.stderr.strip()
        text = answer.stdout.strip()
        return json.loads(text) if text.startswith(("{", "[")) else text

    return aws


def test_identity_roles_and_registry(aws):
    identity = aws("sts", "get-caller-identity")
    assert identity["Account"] == ACCOUNT
    assert identity["Arn"].startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/ClaryExecutionRole/")
    role = aws("iam", "get-role", "--role-name", "ClaryExecutionRole")["Role"]
    assert role["Arn"] == ROLE
    trusted = role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"]
    assert "sagemaker.amazonaws.com" in trusted
    assert aws("ecr", "get-login-password")
    made = aws("ecr", "create-repository", "--repository-name", "team/model")["repository"]
    assert made["repositoryUri"] == f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/team/model"
    found = aws("ecr", "describe-repositories")["repositories"]
    assert [one["repositoryName"] for one in found] == ["team/model"]


def test_s3_copies_lists_syncs_and_removes(aws, tmp_path: Path):
    bucket = "cli-files"
    assert aws("s3", "mb", f"s3://{bucket}") == f"make_bucket: {bucket}"
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / "one.csv").write_text("1,2\n")
    (folder / "deep" / "two words.csv").write_text("3,4\n")
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(range(256)) * 40_960)  # 10 MiB: above the threshold of multipart uploads
    aws("s3", "cp", str(big), f"s3://{bucket}/big.bin", "--no-progress")
    aws("s3", "sync", str(folder), f"s3://{bucket}/data", "--no-progress")
    listed = aws("s3", "ls", f"s3://{bucket}", "--recursive")
    shown = [line.split(maxsplit=3)[2:] for line in listed.splitlines()]
    assert shown == [
        ["10485760", "big.bin"],
        ["4", "data/deep/two words.csv"],
        ["4", "data/one.csv"],
    ]
    assert aws("s3", "sync", str(folder), f"s3://{bucket}/data", "--no-progress") == ""
    aws("s3", "cp", f"s3://{bucket}/big.bin", str(tmp_path / "back.bin"), "--no-progress")
    assert (tmp_path / "back.bin").read_bytes() == big.read_bytes()
    aws("s3", "cp", f"s3://{bucket}/data/one.csv", f"s3://{bucket}/copy.csv", "--no-progress")
    assert aws("s3", "cp", f"s3://{bucket}/copy.csv", "-") == "1,2"
    aws("s3", "rm", f"s3://{bucket}", "--recursive")
    assert aws("s3", "ls", f"s3://{bucket}", "--recursive") == ""
    assert aws("s3", "rb", f"s3://{bucket}") == f"remove_bucket: {bucket}"
    assert "NoSuchBucket" in aws("s3", "ls", f"s3://{bucket}", fails=True)


def test_a_model_is_made_served_asked_and_removed(aws, client, tmp_path: Path):
    bucket = f"sagemaker-{REGION}-{ACCOUNT}"
    packed = tmp_path / "model.tar.gz"
    packed.write_bytes(archive({"code/inference.py": HANDLERS}))
    aws("s3api", "create-bucket", "--bucket", bucket)
    aws("s3", "cp", str(packed), f"s3://{bucket}/cli/model.tar.gz", "--no-progress")
    container = {
        "Image": SKLEARN,
        "ModelDataUrl": f"s3://{bucket}/cli/model.tar.gz",
        "Environment": {
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        },
    }
    made = aws(
        *("sagemaker", "create-model", "--model-name", "cli-model"),
        *("--execution-role-arn", ROLE, "--primary-container", json.dumps(container)),
    )
    assert made == {"ModelArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model/cli-model"}
    shown = aws("sagemaker", "describe-model", "--model-name", "cli-model")
    assert shown["PrimaryContainer"]["Environment"] == container["Environment"]
    names = aws("sagemaker", "list-models", "--query", "Models[].ModelName", "--output", "text")
    assert "cli-model" in names.split()
    variant = "VariantName=AllTraffic,ModelName=cli-model,InstanceType=ml.m5.large"
    aws(
        *("sagemaker", "create-endpoint-config", "--endpoint-config-name", "cli-config"),
        *("--production-variants", f"{variant},InitialInstanceCount=1"),
    )
    aws(
        *("sagemaker", "create-endpoint", "--endpoint-name", "cli-endpoint"),
        *("--endpoint-config-name", "cli-config"),
    )
    # The command polls every 30 s and has no option for it, so it is asked when there is nothing to wait for.
    sagemaker = client("sagemaker")
    wait_until(
        lambda: (
            sagemaker.describe_endpoint(EndpointName="cli-endpoint")["EndpointStatus"] != "Creating"
        )
    )
    aws("sagemaker", "wait", "endpoint-in-service", "--endpoint-name", "cli-endpoint")
    told = aws(
        *("sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "cli-endpoint"),
        *("--content-type", "application/json", "--body", "[1, 2.5]", "answer.json"),
    )
    assert told["InvokedProductionVariant"] == "AllTraffic"
    assert json.loads((tmp_path / "answer.json").read_text()) == [3, 7.5]

    stream = aws(
        *("logs", "describe-log-streams", "--log-group-name"),
        "/aws/sagemaker/Endpoints/cli-endpoint",
    )["logStreams"][0]["logStreamName"]
    assert stream.startswith("AllTraffic/i-")
    events = aws(
        *("logs", "get-log-events", "--log-group-name", "/aws/sagemaker/Endpoints/cli-endpoint"),
        *("--log-stream-name", stream, "--start-from-head"),
    )["events"]
    assert any("model is loaded" in one["message"] for one in events), events

    for noun, name in (("endpoint", "endpoint"), ("endpoint-config", "config"), ("model", "model")):
        assert aws("sagemaker", f"delete-{noun}", f"--{noun}-name", f"cli-{name}") == ""
    aws("sagemaker", "wait", "endpoint-deleted", "--endpoint-name", "cli-endpoint")
    gone = aws("sagemaker", "describe-model", "--model-name", "cli-model", fails=True)
    assert "(ValidationException)" in gone and "Could not find model" in gone


def test_a_training_job_from_a_file_of_json(aws, client, tmp_path: Path):
    bucket = f"sagemaker-{REGION}-{ACCOUNT}"
    aws("s3api", "create-bucket", "--bucket", bucket)
    request = aws("sagemaker", "create-training-job", "--generate-cli-skeleton")
    assert "AlgorithmSpecification" in request
    code = base64.b64encode(b"print('trained from the shell')").decode()
    request = {
        "TrainingJobName": "cli-job",
        "RoleArn": ROLE,
        "AlgorithmSpecification": {
            "TrainingImage": SKLEARN,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["bash", "-c", f"echo {code} | base64 -d | python3"],
        },
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/cli"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    path = tmp_path / "job.json"
    path.write_text(json.dumps(request))
    aws("sagemaker", "create-training-job", "--cli-input-json", f"file://{path}")
    sagemaker = client("sagemaker")
    wait_until(
        lambda: (
            sagemaker.describe_training_job(TrainingJobName="cli-job")["TrainingJobStatus"]
            != "InProgress"
        )
    )
    aws("sagemaker", "wait", "training-job-completed-or-stopped", "--training-job-name", "cli-job")
    status = aws(
        *("sagemaker", "describe-training-job", "--training-job-name", "cli-job"),
        *("--query", "[TrainingJobStatus, SecondaryStatus]", "--output", "text"),
    )
    assert status.split() == ["Completed", "Completed"]
    lines = aws(
        *("logs", "filter-log-events", "--log-group-name", "/aws/sagemaker/TrainingJobs"),
        *("--log-stream-name-prefix", "cli-job/", "--query", "events[].message"),
    )
    assert lines == ["trained from the shell"]
