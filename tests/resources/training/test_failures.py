"""What a job that goes wrong says of it."""

from __future__ import annotations

import json

import pytest

from tests.resources.training.conftest import channel, resources


def test_a_broken_manifest_is_named(training):
    folder = training.put({"list": json.dumps(["no prefix"])})
    job = training.run(
        "pass",
        InputDataConfig=[channel("train", f"{folder}/list", source={"S3DataType": "ManifestFile"})],
    )
    assert job["FailureReason"].startswith("ClientError: Data download failed:")
    assert f"The manifest file {folder}/list cannot be used" in job["FailureReason"]


def test_an_object_that_a_manifest_names_wrongly_is_named(training):
    folder = training.put({"list": "", "x/1": "one"})
    manifest = json.dumps([{"prefix": f"{folder}/x/"}, "1", "7"])
    training.s3.put_object(
        Bucket=training.bucket, Key=f"{folder.split('/', 3)[3]}/list", Body=manifest
    )
    job = training.run(
        "pass",
        InputDataConfig=[channel("train", f"{folder}/list", source={"S3DataType": "ManifestFile"})],
    )
    assert job["FailureReason"].startswith("ClientError: Data download failed:")
    assert f"{folder}/x/7" in job["FailureReason"]


def test_a_truncated_gzip_object_in_a_pipe_is_named(training):
    folder = training.put({"cut.gz": b"\x1f\x8b\x08\x00cut"})
    code = "data = open('/opt/ml/input/data/train_0', 'rb').read(); raise SystemExit(len(data) + 9)"
    job = training.run(
        code,
        InputDataConfig=[channel("train", f"{folder}/", InputMode="Pipe", CompressionType="Gzip")],
    )
    assert job["TrainingJobStatus"] == "Failed"
    assert f"{folder}/cut.gz is not whole gzip data" in job["FailureReason"]


READS_TWO_EPOCHS = """
for epoch in (0, 1):
    print(epoch, len(open(f"/opt/ml/input/data/train_{epoch}", "rb").read()), flush=True)
"""


@pytest.mark.parametrize("code", [READS_TWO_EPOCHS, READS_TWO_EPOCHS.replace("(0, 1)", "(0,)")])
@pytest.mark.parametrize(
    ("second", "told"),
    [
        ({"source-ref": "{folder}/none"}, "{folder}/none"),
        ({"other": 1}, "holds a line without the attribute 'source-ref'"),
    ],
)
def test_a_pipe_that_breaks_fails_the_job_at_once_whatever_the_script_does(
    training, code, second, told
):
    folder = training.put({"one": "first"})
    lines = [{"source-ref": "{folder}/one"}, second]
    body = "\n".join(json.dumps(line) for line in lines).replace("{folder}", folder)
    place = training.put({"m.jsonl": body})
    source = {"S3DataType": "AugmentedManifestFile", "AttributeNames": ["source-ref"]}
    job = training.run(
        code,
        InputDataConfig=[
            channel(
                "train",
                f"{place}/m.jsonl",
                source=source,
                InputMode="Pipe",
                RecordWrapperType="RecordIO",
            )
        ],
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )
    assert job["TrainingJobStatus"] == "Failed", job
    assert job["FailureReason"].startswith("ClientError: Data download failed:")
    assert told.replace("{folder}", folder) in job["FailureReason"]
    assert job["TrainingTimeInSeconds"] < 50
    assert any("broke" in line for line in training.lines(job["TrainingJobName"]))


def test_a_script_that_is_killed_names_the_signal(training):
    job = training.run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert job["FailureReason"].startswith("AlgorithmError: the program was killed by SIGSEGV"), (
        job["FailureReason"]
    )
    assert "/aws/sagemaker/TrainingJobs" in job["FailureReason"]


def test_of_several_hosts_the_one_that_was_killed_is_named_with_the_signal(training):
    code = (
        "import json, os, time\n"
        "config = json.load(open('/opt/ml/input/config/resourceconfig.json'))\n"
        "os.kill(os.getpid(), 9) if config['current_host'] == 'algo-2' else time.sleep(100)"
    )
    reason = training.run(code, ResourceConfig=resources(2))["FailureReason"]
    assert reason.startswith("AlgorithmError: the program was killed by SIGKILL (host algo-2)")
    assert "emory" not in reason


def test_a_script_without_memory_is_named_so_with_its_traceback(training):
    code = "def grow():\n    raise MemoryError('too much')\ngrow()"
    job = training.run(code)
    reason = job["FailureReason"]
    assert reason.startswith("ClientError: Please use an instance type with more memory")
    assert "MemoryError: too much" in reason
    assert "in grow" in reason


def test_a_script_says_itself_why_it_failed(training):
    code = (
        "import pathlib; pathlib.Path('/opt/ml/output/failure').write_text('bad data in row 7')\n"
        "raise SystemExit(4)"
    )
    job = training.run(code)
    assert job["FailureReason"].startswith("AlgorithmError: bad data in row 7, exit code: 4")
