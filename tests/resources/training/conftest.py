"""Training jobs of a real server, each a few lines of Python."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.journeys.conftest import (
    ROLE,
    SKLEARN,
    boto3_clients,
    bucket_of,
    ended,
    exported,
    python_job,
    server,
    wait_until,
)

__all__ = ["exported", "server"]


PLACE = "/opt/ml/input/config/hyperparameters.json"
# A variable is short; a hyperparameter may be as long as these scripts are.
ENVIRONMENT_CHARACTERS_MAX = 512
LONG = "import json; exec(json.loads(json.load(open(PATH))['code']))".replace("PATH", repr(PLACE))


@dataclass
class Training:
    """What the tests of training jobs do again and again."""

    sagemaker: Any
    s3: Any
    logs: Any
    bucket: str

    def start(self, code: str, **changes: Any) -> str:
        name = changes.pop("TrainingJobName", f"job-{uuid.uuid4().hex[:10]}")
        if len(code) > ENVIRONMENT_CHARACTERS_MAX:
            changes.setdefault("HyperParameters", {})["code"] = json.dumps(code)
            code = LONG
        self.sagemaker.create_training_job(**python_job(name, code, **changes))
        return name

    def run(self, code: str, **changes: Any) -> dict[str, Any]:
        return ended(self.sagemaker, self.start(code, **changes))

    def ended(self, name: str) -> dict[str, Any]:
        return ended(self.sagemaker, name)

    def describe(self, name: str) -> dict[str, Any]:
        return self.sagemaker.describe_training_job(TrainingJobName=name)

    def wait(self, name: str, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            job = self.describe(name)
            return job if condition(job) else None

        return wait_until(found)

    def tag(self, name: str, key: str, value: str) -> None:
        arn = self.describe(name)["TrainingJobArn"]
        self.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": key, "Value": value}])

    def put(self, objects: dict[str, bytes | str]) -> str:
        """Objects below a prefix of their own; returns its URI."""
        prefix = f"data/{uuid.uuid4().hex[:10]}"
        for name, body in objects.items():
            self.s3.put_object(Bucket=self.bucket, Key=f"{prefix}/{name}", Body=body)
        return f"s3://{self.bucket}/{prefix}"

    def get(self, uri: str) -> bytes:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def lines(self, name: str) -> list[str]:
        """Every line of the job's log, host after host."""
        group = "/aws/sagemaker/TrainingJobs"
        found: list[str] = []
        try:
            streams = self.logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=name)
        except self.logs.exceptions.ResourceNotFoundException:
            return found  # the first job of the server has not said anything yet
        for stream in sorted(one["logStreamName"] for one in streams["logStreams"]):
            answer = self.logs.get_log_events(
                logGroupName=group, logStreamName=stream, startFromHead=True
            )
            found += [event["message"] for event in answer["events"]]
        return found


@pytest.fixture(scope="session")
def training(exported: dict[str, str]) -> Iterator[Training]:
    """One for all tests: a client of boto3 takes seconds to make."""
    opened: list[Any] = []
    client = boto3_clients(exported, opened)
    s3 = client("s3")
    yield Training(client("sagemaker"), s3, client("logs"), bucket_of(s3))
    for one in opened:
        one.close()


def channel(name: str, uri: str, **members: Any) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, **members.pop("source", {})}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **members}


def resources(count: int = 1, **members: Any) -> dict[str, Any]:
    known = {"InstanceType": "ml.m5.large", "InstanceCount": count, "VolumeSizeInGB": 5}
    return {**known, **members}


def statuses(job: dict[str, Any]) -> list[str]:
    """The secondary statuses of a job, without those that follow one another twice."""
    found: list[str] = []
    for one in job["SecondaryStatusTransitions"]:
        if not found or found[-1] != one["Status"]:
            found.append(one["Status"])
    return found


def printed(lines: list[str]) -> list[Any]:
    """What a program printed as JSON."""
    return [json.loads(line) for line in lines if line.startswith(("{", "["))]


__all__ += ["ROLE", "SKLEARN", "channel", "printed", "resources", "statuses", "wait_until"]
