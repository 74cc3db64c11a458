"""Spot interruptions and retries, on a real server: what a client sees, and what a script finds again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import plain_environment
from tests.resources.training.conftest import resources, statuses, wait_until

# Counts its attempts in its checkpoints; the first one waits to be taken away.
COUNTS = """
import os, pathlib, signal, sys, time
place = pathlib.Path("/opt/ml/checkpoints/attempts")
attempts = int(place.read_text()) + 1 if place.exists() else 1
place.write_text(str(attempts))
print("attempt", attempts, os.listdir("/opt/ml/model"), flush=True)
if attempts == 1:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    time.sleep(100)
pathlib.Path("/opt/ml/model/m").write_text(str(attempts))
"""
SPOT = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 300, "MaxWaitTimeInSeconds": 400},
}


@pytest.fixture
def clary(server):
    def run(*words: str, code: int = 0) -> str:
        answer = subprocess.run(
            [sys.executable, "-m", "clary.cli", *words],
            env={**plain_environment(), "CLARY_HOME": str(server.home)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert answer.returncode == code, answer.stderr
        return answer.stdout + answer.stderr

    return run


def checkpoints(training) -> dict[str, str]:
    return {"S3Uri": training.put({".keep": ""})}


def runner_of(server, arn: str) -> int:
    """The process that watches over the running host of a job."""
    for spec in Path(server.settings.home, "work").glob("*/g*/*/spec.json"):
        if arn in spec.read_text():
            return int(spec.with_name("runner.lock").read_text())
    raise AssertionError(f"nothing of {arn} was launched")


def test_an_interrupted_spot_job_goes_on_from_its_checkpoints(training, server, clary):
    name = training.start(COUNTS, CheckpointConfig=checkpoints(training), **SPOT)
    wait_until(lambda: "attempt 1 []" in training.lines(name))
    told = clary("interrupt", name)
    assert "starts again from its checkpoints" in told
    job = training.ended(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert statuses(job) == [
        "Starting", "Downloading", "Training", "Interrupted",
        "Starting", "Downloading", "Training", "Uploading", "Completed",
    ]  # fmt: skip
    # The model directory starts empty; checkpoints are what outlives an interruption.
    assert training.lines(name) == ["attempt 1 []", "attempt 2 []"]
    assert 1 <= job["BillableTimeInSeconds"] < job["TrainingTimeInSeconds"]
    assert job["TrainingStartTime"] < job["TrainingEndTime"]


def test_only_a_running_spot_job_can_be_interrupted(training, clary):
    job = training.run("pass")
    assert "does not train on spot instances" in clary("interrupt", job["TrainingJobName"], code=1)
    with pytest.raises(ClientError, match="Invalid MaxWaitTimeInSeconds"):
        training.start("pass", EnableManagedSpotTraining=True)


def test_a_job_whose_runner_is_killed_is_retried_from_its_checkpoints(training, server):
    name = training.start(
        COUNTS,
        CheckpointConfig=checkpoints(training),
        RetryStrategy={"MaximumRetryAttempts": 2},
    )
    wait_until(lambda: "attempt 1 []" in training.lines(name))
    arn = training.describe(name)["TrainingJobArn"]
    place = training.describe(name)["CheckpointConfig"]["S3Uri"]
    wait_until(
        lambda: training.s3.list_objects_v2(
            Bucket=training.bucket, Prefix=place.split("/", 3)[3] + "/attempts"
        )["KeyCount"]
    )
    os.kill(runner_of(server, arn), signal.SIGKILL)
    job = training.ended(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert "Restarting" in statuses(job)
    message = next(
        one["StatusMessage"]
        for one in job["SecondaryStatusTransitions"]
        if one["Status"] == "Restarting"
    )
    assert "attempt 1 of 2" in message
    assert "InternalServerError" in message
    assert "attempt 2 []" in training.lines(name)


def test_a_host_that_dies_ends_the_other_hosts_and_is_named(training, server):
    name = training.start(
        "import time; print('up', flush=True); time.sleep(100)", ResourceConfig=resources(2)
    )
    wait_until(lambda: training.lines(name).count("up") == 2)
    arn = training.describe(name)["TrainingJobArn"]
    for spec in Path(server.settings.home, "work").glob("*/g1/algo-2/spec.json"):
        if arn in spec.read_text():
            os.kill(int(spec.with_name("runner.lock").read_text()), signal.SIGKILL)
    job = training.ended(name)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("InternalServerError: ")
    assert "host algo-2 of the job" in job["FailureReason"]


def test_an_error_of_the_algorithm_is_not_retried(training):
    job = training.run("raise SystemExit(3)", RetryStrategy={"MaximumRetryAttempts": 3})
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: , exit code: 3")
    assert "Restarting" not in statuses(job)
