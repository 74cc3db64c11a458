"""FastFile channels of jobs of a real server: read as they are wanted, and never written."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import uuid
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from clary.executors.capabilities import probe
from tests.journeys.conftest import XGBOOST, training_job
from tests.resources.training.conftest import channel, printed, resources

FOUND = probe()
pytestmark = pytest.mark.skipif(not FOUND.fast_files, reason=FOUND.explanations["fast_files"])
MIB = 1024 * 1024

PARTS = """
import errno, hashlib, json, os, time
place = "/opt/ml/input/data/fast/"
found = {"size": os.stat(place + "large.bin").st_size, "parts": [], "refused": []}
with open(place + "large.bin", "rb", buffering=0) as file:
    for at in (0, 13 << 20, 39 << 20):
        found["parts"].append(hashlib.sha256(os.pread(file.fileno(), 1000, at)).hexdigest())
for attempt in (
    lambda: open(place + "large.bin", "r+b"),
    lambda: open(place + "new", "w"),
    lambda: os.unlink(place + "large.bin"),
    lambda: os.mkdir(place + "folder"),
    lambda: os.truncate(place + "large.bin", 0),
):
    try:
        attempt()
    except OSError as problem:
        found["refused"].append(errno.errorcode[problem.errno])
print(json.dumps(found), flush=True)
time.sleep(600)
"""


def test_a_job_reads_parts_of_an_object_that_was_never_downloaded(training, server):
    body = os.urandom(MIB) * 40
    place = training.put({"large.bin": body})
    asked = [channel("fast", place, InputMode="FastFile")]  # a folder, with its / or without
    name = training.start(PARTS, InputDataConfig=asked)
    training.wait(name, lambda job: printed(training.lines(name)) or job.get("FailureReason"))
    (found,) = printed(training.lines(name))
    # What the job has on this machine while it runs.
    (directory,) = running(server.home, name)
    state = json.loads((directory / "state.json").read_text())
    files = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    training.sagemaker.stop_training_job(TrainingJobName=name)
    expected = [hashlib.sha256(body[at : at + 1000]).hexdigest() for at in (0, 13 * MIB, 39 * MIB)]
    assert (found["size"], found["parts"]) == (40 * MIB, expected)
    assert found["refused"] == ["EROFS"] * 5
    assert state["input_bytes"] == 0
    assert sum(path.stat().st_size for path in files) < MIB
    assert training.ended(name)["TrainingJobStatus"] == "Stopped"


def running(home: Path, name: str) -> list[Path]:
    """The directories of a job's hosts."""
    specs = [path for path in Path(home).glob("work/*/*/*/spec.json") if name in path.read_text()]
    return [path.parent for path in specs]


LISTS = """
import json, os, pathlib
place = pathlib.Path("/opt/ml/input/data/fast")
host = json.load(open("/opt/ml/input/config/resourceconfig.json"))["current_host"]
files = sorted(path for path in place.rglob("*") if path.is_file())
print(json.dumps({"host": host, **{str(path.relative_to(place)): path.read_text() for path in files}}))
"""


def test_hosts_share_a_channel_of_odd_names_and_empty_objects(training):
    keys = ["%_", "a b", "deep/er/x", "line\nbreak", "zéro"]
    place = training.put({key: "" if key == "zéro" else key for key in keys})
    whole = channel("fast", f"{place}/", InputMode="FastFile")
    whole["DataSource"]["S3DataSource"]["S3DataDistributionType"] = "ShardedByS3Key"
    job = training.run(LISTS, InputDataConfig=[whole], ResourceConfig=resources(2))
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    found = {one.pop("host"): one for one in printed(training.lines(job["TrainingJobName"]))}
    assert found["algo-1"] == {"%_": "%_", "deep/er/x": "deep/er/x", "zéro": ""}
    assert found["algo-2"] == {"a b": "a b", "line\nbreak": "line\nbreak"}


READS_ON = """
import errno, pathlib, time
print("reading", flush=True)
for path in sorted(pathlib.Path("/opt/ml/input/data/fast").iterdir()):
    try:
        path.read_bytes()
    except OSError as problem:
        print("read", errno.errorcode[problem.errno], flush=True)
        break
    time.sleep(0.2)
"""


def test_an_object_that_is_deleted_during_the_job_is_told_in_its_log(training):
    place = training.put({f"{number:02}": "x" for number in range(40)})
    asked = [channel("fast", f"{place}/", InputMode="FastFile")]
    name = training.start(READS_ON, InputDataConfig=asked)
    training.wait(name, lambda job: "reading" in training.lines(name))
    prefix = place.partition(training.bucket + "/")[2]
    keys = [{"Key": f"{prefix}/{number:02}"} for number in range(40)]
    training.s3.delete_objects(Bucket=training.bucket, Delete={"Objects": keys})
    job = training.ended(name)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    lines = training.lines(name)
    assert "read EIO" in lines
    (told,) = [line for line in lines if line.startswith("Channel fast: ")]
    assert told.endswith("was deleted since the job began. Reading it fails with EIO.")


def test_a_prefix_that_is_no_folder_is_refused(training):
    place = training.put({"train.csv": "1,2\n"})
    asked = [channel("fast", f"{place}/tr", InputMode="FastFile")]
    with pytest.raises(ClientError, match=f'No S3 objects found under S3 URL "{place}/tr/"'):
        training.start("pass", InputDataConfig=asked)


def model_files(training, mode: str, place: str) -> dict[str, bytes]:
    """The model of a built-in algorithm."""
    train = channel("train", f"{place}/", ContentType="text/csv")
    request = training_job(f"fast-{uuid.uuid4().hex[:10]}", InputDataConfig=[train])
    request["AlgorithmSpecification"] = {"TrainingImage": XGBOOST, "TrainingInputMode": mode}
    request["HyperParameters"] = {"num_round": "3", "objective": "reg:squarederror"}
    training.sagemaker.create_training_job(**request)
    job = training.ended(request["TrainingJobName"])
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    packed = training.get(job["ModelArtifacts"]["S3ModelArtifacts"])
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                found[member.name] = file.read()
    return found


def test_a_built_in_algorithm_makes_the_same_model_of_either_mode(training):
    rows = [
        f"{number % 2 * 9 + number / 50:.3f},{number % 2 * 7:.1f},{number}" for number in range(100)
    ]
    place = training.put({"a.csv": "\n".join(rows[:50]), "deep/b.csv": "\n".join(rows[50:])})
    file, fast = (model_files(training, mode, place) for mode in ("File", "FastFile"))
    assert file
    assert file == fast
