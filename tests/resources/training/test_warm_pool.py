"""Warm pools, UpdateTrainingJob and DeleteTrainingJob of a real server."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import refusal
from tests.resources.training.conftest import resources, wait_until

CACHES = """
import os, pathlib
cache = pathlib.Path("/opt/ml/sagemaker/warmpoolcache")
cache.mkdir(parents=True, exist_ok=True)
print("cached", sorted(os.listdir(cache)), flush=True)
(cache / os.environ["TRAINING_JOB_NAME"]).write_text("kept")
"""


def status_of(training, name: str) -> str:
    return training.describe(name)["WarmPoolStatus"]["Status"]


def available(training) -> list[str]:
    found = training.sagemaker.list_training_jobs(WarmPoolStatusEquals="Available")
    return [one["TrainingJobName"] for one in found["TrainingJobSummaries"]]


def test_the_next_matching_job_takes_the_pool_and_finds_its_cache(training):
    kept = resources(KeepAlivePeriodInSeconds=600)
    first = training.run(CACHES, ResourceConfig=kept)["TrainingJobName"]
    assert status_of(training, first) == "Available"
    assert first in available(training)
    # Another size is another pool.
    other = training.run(CACHES, ResourceConfig=resources(VolumeSizeInGB=6))["TrainingJobName"]
    assert "cached []" in training.lines(other)
    assert status_of(training, first) == "Available"

    second = training.run(CACHES, ResourceConfig=kept)["TrainingJobName"]
    pool = training.describe(first)["WarmPoolStatus"]
    assert (pool["Status"], pool["ReusedByJob"]) == ("Reused", second)
    assert pool["ResourceRetainedBillableTimeInSeconds"] >= 0
    assert f"cached ['{first}']" in training.lines(second)
    assert first not in available(training)
    # Reused once; the chain goes on from the second job, which is released by an update.
    sagemaker = training.sagemaker
    sagemaker.update_training_job(
        TrainingJobName=second, ResourceConfig={"KeepAlivePeriodInSeconds": 0}
    )
    wait_until(lambda: status_of(training, second) == "Terminated")
    third = training.run(CACHES, ResourceConfig=resources())["TrainingJobName"]
    assert "cached []" in training.lines(third)


def test_a_pool_must_be_released_before_its_job_is_deleted(training):
    sagemaker = training.sagemaker
    kept = resources(KeepAlivePeriodInSeconds=600)
    name = training.start("import time; time.sleep(100)", ResourceConfig=kept)
    assert status_of(training, name) == "InUse"
    with pytest.raises(ClientError) as caught:
        sagemaker.delete_training_job(TrainingJobName=name)
    assert refusal(caught)[0] == "ResourceInUse"
    training.wait(name, lambda job: job["SecondaryStatus"] == "Training")
    sagemaker.stop_training_job(TrainingJobName=name)
    training.ended(name)
    assert status_of(training, name) == "Available"
    with pytest.raises(ClientError, match="retains a warm pool"):
        sagemaker.delete_training_job(TrainingJobName=name)
    sagemaker.update_training_job(
        TrainingJobName=name, ResourceConfig={"KeepAlivePeriodInSeconds": 0}
    )
    sagemaker.delete_training_job(TrainingJobName=name)

    def is_gone() -> bool:
        try:
            training.describe(name)
        except ClientError as problem:
            return "not found" in str(problem)
        return False

    wait_until(is_gone)
    assert training.run("pass", TrainingJobName=name)["TrainingJobStatus"] == "Completed"


def test_a_running_job_takes_another_profiler_and_an_ended_one_does_not(training):
    sagemaker = training.sagemaker
    name = training.start("import time; time.sleep(100)", Environment={"CODE": "input"})
    sagemaker.stop_training_job(TrainingJobName=name)
    training.ended(name)
    with pytest.raises(ClientError, match="is in status Stopped"):
        sagemaker.update_training_job(
            TrainingJobName=name, ProfilerConfig={"DisableProfiler": True}
        )
    name = training.start("import time; time.sleep(100)")
    sagemaker.update_training_job(
        TrainingJobName=name,
        ProfilerConfig={"ProfilingIntervalInMilliseconds": 500},
        RemoteDebugConfig={"EnableRemoteDebug": True},
    )
    job = training.describe(name)
    assert job["ProfilingStatus"] == "Enabled"
    assert job["RemoteDebugConfig"] == {"EnableRemoteDebug": True}
    with pytest.raises(ClientError, match="created without a warm pool"):
        sagemaker.update_training_job(
            TrainingJobName=name, ResourceConfig={"KeepAlivePeriodInSeconds": 60}
        )
    with pytest.raises(ClientError, match="ProfilingIntervalInMilliseconds must be one of"):
        sagemaker.update_training_job(
            TrainingJobName=name, ProfilerConfig={"ProfilingIntervalInMilliseconds": 7}
        )
    sagemaker.update_training_job(TrainingJobName=name, ProfilerConfig={"DisableProfiler": True})
    assert training.describe(name)["ProfilingStatus"] == "Disabled"
    sagemaker.stop_training_job(TrainingJobName=name)
    training.ended(name)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"ResourceConfig": resources(KeepAlivePeriodInSeconds=7_200)}, "at most 3600"),
        (
            {
                "ResourceConfig": resources(KeepAlivePeriodInSeconds=60),
                "EnableManagedSpotTraining": True,
                "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60},
            },
            "not supported with managed spot training",
        ),
        (
            {
                "ResourceConfig": {
                    "VolumeSizeInGB": 5,
                    "KeepAlivePeriodInSeconds": 60,
                    "InstanceGroups": [
                        {
                            "InstanceGroupName": "one",
                            "InstanceType": "ml.m5.large",
                            "InstanceCount": 1,
                        }
                    ],
                }
            },
            "not supported with InstanceGroups",
        ),
    ],
)
def test_a_warm_pool_that_cannot_be_is_refused(training, changes, text):
    with pytest.raises(ClientError, match=text):
        training.start("pass", **changes)
