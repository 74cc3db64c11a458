"""What an operator's settings change in training jobs: file systems, memory, and spot capacity that comes and goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from clary.cli.ephemeral import ephemeral_installation
from tests.journeys.conftest import boto3_clients, bucket_of, exported_by, plain_environment
from tests.resources.training.conftest import Training, printed, statuses

FILE_SYSTEM = "fs-0123456789abcdef0"
MEMORY_BYTES = 512 * 1024 * 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Any:
    made = tmp_path_factory.mktemp("efs")
    (made / "data").mkdir()
    (made / "data" / "a.txt").write_text("A")
    return made


@pytest.fixture(scope="module")
def training(folder) -> Iterator[Training]:
    settings = {
        "CLARY_FILE_SYSTEMS": f"{FILE_SYSTEM}={folder}",
        "CLARY_JOB_MEMORY_BYTES": str(MEMORY_BYTES),
        "CLARY_SPOT_INTERRUPTION_SECONDS": "0.001",
    }
    with ephemeral_installation({**plain_environment(), **settings}) as installation:
        opened: list[Any] = []
        client = boto3_clients(exported_by(installation), opened)
        s3 = client("s3")
        yield Training(client("sagemaker"), s3, client("logs"), bucket_of(s3))
        for one in opened:
            one.close()


def file_system(access: str, path: str = "/data") -> dict[str, Any]:
    source = {
        "FileSystemId": FILE_SYSTEM,
        "FileSystemType": "EFS",
        "FileSystemAccessMode": access,
        "DirectoryPath": path,
    }
    return {"ChannelName": access, "DataSource": {"FileSystemDataSource": source}}


def test_a_file_system_is_read_and_written_in_place(training, folder):
    (folder / "shared").mkdir()
    code = (
        "import json, os, pathlib\n"
        "data = pathlib.Path('/opt/ml/input/data')\n"
        "(data / 'rw' / 'made').write_text('by the job')\n"
        "try: (data / 'ro' / 'made').write_text('x')\n"
        "except OSError as problem: refused = problem.strerror\n"
        "print(json.dumps([(data / 'ro' / 'a.txt').read_text(), refused]))"
    )
    channels = [file_system("ro"), file_system("rw", "/shared")]
    job = training.run(code, InputDataConfig=channels)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    (found,) = printed(training.lines(job["TrainingJobName"]))
    assert found == ["A", "Read-only file system"]
    assert (folder / "shared" / "made").read_text() == "by the job"


@pytest.mark.parametrize(
    ("path", "text"),
    [("/none", "does not exist"), ("/../etc", "must not hold"), ("/link", "leads out of")],
)
def test_a_directory_that_is_not_in_the_file_system_is_refused(training, folder, path, text):
    (folder / "link").unlink(missing_ok=True)
    (folder / "link").symlink_to("/etc")
    with pytest.raises(training.sagemaker.exceptions.ClientError, match=text):
        training.start("pass", InputDataConfig=[file_system("ro", path)])


def test_a_script_beyond_its_memory_is_named_so_with_the_signal_or_traceback(training):
    job = training.run("kept = []\nwhile True: kept.append(bytearray(16 * 1024 * 1024))")
    reason = job["FailureReason"]
    assert reason.startswith("ClientError: Please use an instance type with more memory"), reason
    assert "SIGKILL" in reason or "MemoryError" in reason


def test_random_interruptions_come_by_the_setting(training):
    code = (
        "import pathlib, time\n"
        "place = pathlib.Path('/opt/ml/checkpoints/attempt')\n"
        "first = not place.exists()\n"
        "place.write_text('1')\n"
        "time.sleep(30 if first else 0)"
    )
    job = training.run(
        code,
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 100, "MaxWaitTimeInSeconds": 200},
        CheckpointConfig={"S3Uri": training.put({".keep": ""})},
    )
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert "Interrupted" in statuses(job)
