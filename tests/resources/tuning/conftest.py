"""Tuning jobs of a real server, whose training jobs are a few lines of Python."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.journeys.conftest import (
    ROLE,
    SKLEARN,
    archive,
    bucket_of,
    client,
    exported,
    server,
    wait_until,
)

__all__ = ["client", "exported", "server"]

# Hyperparameters are in `h`, as the strings that the training job got.
PREFIX = "import json, time\nh = json.load(open('/opt/ml/input/config/hyperparameters.json'))\n"
OBJECTIVE = {"Type": "Minimize", "MetricName": "loss"}
ENDED = ("Completed", "Failed", "Stopped")


@dataclass
class Tuner:
    """What the tests of tuning jobs do again and again."""

    sagemaker: Any
    s3: Any
    bucket: str

    def definition(self, code: str, **members: Any) -> dict[str, Any]:
        key = f"tuning/{uuid.uuid4().hex}.tar.gz"
        packed = archive({"train.py": PREFIX + code})
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=packed)
        static = members.pop("StaticHyperParameters", {})
        return {
            "StaticHyperParameters": {
                "sagemaker_program": '"train.py"',
                "sagemaker_submit_directory": f'"s3://{self.bucket}/{key}"',
                **static,
            },
            "AlgorithmSpecification": {
                "TrainingImage": SKLEARN,
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([-0-9.e]+);"}],
            },
            "RoleArn": ROLE,
            "OutputDataConfig": {"S3OutputPath": f"s3://{self.bucket}/tuned"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 1,
                "VolumeSizeInGB": 5,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            **members,
        }

    def create(self, definition: dict[str, Any], ranges: dict[str, Any], **changes: Any) -> str:
        name = f"tune-{uuid.uuid4().hex[:8]}"
        limits = {"MaxParallelTrainingJobs": 2, **changes.pop("limits", {})}
        members = changes.pop("members", {})
        self.sagemaker.create_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name,
            HyperParameterTuningJobConfig={
                "Strategy": "Random",
                "HyperParameterTuningJobObjective": OBJECTIVE,
                "ResourceLimits": limits,
                "ParameterRanges": ranges,
                **changes,
            },
            TrainingJobDefinition=definition,
            **members,
        )
        return name

    def described(self, name: str) -> dict[str, Any]:
        return self.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)

    def ended(self, name: str, seconds: float = 90.0) -> dict[str, Any]:
        def settled() -> dict[str, Any] | None:
            job = self.described(name)
            return job if job["HyperParameterTuningJobStatus"] in ENDED else None

        return wait_until(settled, seconds)

    def trials(self, name: str, **members: Any) -> list[dict[str, Any]]:
        page = self.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name, **{"MaxResults": 100, **members}
        )
        return page["TrainingJobSummaries"]


@pytest.fixture
def tuner(client: Callable[..., Any]) -> Tuner:
    s3 = client("s3")
    return Tuner(client("sagemaker"), s3, bucket_of(s3))
