"""What a job that goes wrong says of it."""

from __future__ import annotations

import json

from tests.resources.training.conftest import channel


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


def test_a_script_that_is_killed_names_the_signal(training):
    job = training.run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert job["FailureReason"].startswith("AlgorithmError: the program was killed by SIGSEGV"), (
        job["FailureReason"]
    )
    assert "/aws/sagemaker/TrainingJobs" in job["FailureReason"]


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
