"""`clary run` and the pytest plugin around programs that know nothing of Clary."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.journeys.conftest import ROOT, plain_environment
from tests.journeys.environments import programs_of

pytestmark = pytest.mark.xdist_group("commands")

PROGRAM = """
import os, sys, time, boto3
bucket = "of-" + sys.argv[1]
s3 = boto3.client("s3")
s3.create_bucket(Bucket=bucket)
job = {
    "TrainingJobName": "job",
    "RoleArn": "arn:aws:iam::123456789012:role/ClaryExecutionRole",
    "AlgorithmSpecification": {
        "TrainingImage": "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3",
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["python3", "-c", "open('/opt/ml/model/name', 'w').write('x')"],
    },
    "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}
sagemaker = boto3.client("sagemaker")
sagemaker.create_training_job(**job)
while (status := sagemaker.describe_training_job(TrainingJobName="job")["TrainingJobStatus"]) == "InProgress":
    time.sleep(0.1)
print(status, [one["Name"] for one in s3.list_buckets()["Buckets"]])
print([one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]], os.environ["AWS_ENDPOINT_URL"])
sys.exit(int(sys.argv[2]))
"""

TESTS = """
import boto3, os

def test_the_fixture_gives_clients(clary):
    clary.client("s3").create_bucket(Bucket="made-by-a-test")
    assert [one["Name"] for one in boto3.client("s3").list_buckets()["Buckets"]] == ["made-by-a-test"]

def test_the_environment_reaches_programs(clary):
    assert os.environ["AWS_ENDPOINT_URL"] == clary.endpoint_url
    assert boto3.client("sts").get_caller_identity()["Account"] == "123456789012"
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A home of its own, whose path is short enough for a socket, in which nothing runs."""
    with tempfile.TemporaryDirectory(prefix="clary-") as folder:
        yield Path(folder)


@pytest.fixture
def clary_run(home: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    (tmp_path / "program.py").write_text(PROGRAM)
    python = programs_of("boto3") / "python"

    def start(*words: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "clary.cli", "run", "--", str(python), "program.py", *words],
            env={
                **plain_environment(),
                "CLARY_HOME": str(home),
                "PYTHONPATH": str(ROOT),
                **variables,
            },
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def processes_with(marker: str) -> set[int]:
    """The processes that carry a variable of ours, whatever became of their parents."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (folder / "environ").read_bytes():
                found.add(int(folder.name))
        except OSError:
            continue
    return found - {os.getpid()}


def test_two_shells_at_once_have_servers_of_their_own_and_leave_nothing(clary_run, home):
    marker = f"JOURNEY_MARK={home.name}"
    homes_before = set(Path("/tmp").glob("clary-*"))
    shells = [
        clary_run(f"shell-{number}", str(number), JOURNEY_MARK=home.name) for number in (3, 4)
    ]
    said = [shell.communicate(timeout=120) for shell in shells]
    addresses = set()
    for number, shell, (out, err) in zip((3, 4), shells, said, strict=True):
        assert shell.returncode == number, out + err
        lines = out.splitlines()
        assert lines[0] == f"Completed ['of-shell-{number}']"
        keys, address = lines[1].rsplit(" ", 1)
        assert keys == "['job/output/model.tar.gz']"
        addresses.add(address)
    assert len(addresses) == 2
    assert processes_with(marker) == set()
    left = {path for path in set(Path("/tmp").glob("clary-*")) - homes_before if path != home}
    assert not [path for path in left if (path / "run" / "server.json").exists() and mine(path)]
    assert not any(home.iterdir())


def mine(path: Path) -> bool:
    """Whether a home in /tmp is of this test: other tests make theirs beside it."""
    return (path / "objects" / "of-shell-3").exists() or (path / "objects" / "of-shell-4").exists()


def test_a_project_of_its_own_uses_the_plugin(home, tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    marker = f"JOURNEY_MARK={home.name}"
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        env={
            **plain_environment(),
            "PYTHONPATH": str(ROOT),
            "CLARY_HOME": str(home),
            "JOURNEY_MARK": home.name,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "2 passed" in answer.stdout
    assert processes_with(marker) == set()
    assert not any(home.iterdir())
