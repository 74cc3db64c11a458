"""Plain boto3, as in the quick start and in scripts that people have: from upload to prediction, and how jobs fail."""

from __future__ import annotations

import datetime
import http.client
import itertools
import re
import uuid
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError

from tests.journeys.conftest import (
    ROOT,
    SKLEARN,
    archive,
    bucket_of,
    ended,
    python_job,
    refusal,
    training_job,
    wait_until,
)

pytestmark = pytest.mark.xdist_group("boto3")

TRAIN_GROUP = "/aws/sagemaker/TrainingJobs"


def unique(stem: str) -> str:
    return f"{stem}-{uuid.uuid4().hex[:8]}"


def test_the_quick_start_runs_unmodified(run):
    answer = run("boto3", "python", str(ROOT / "examples" / "quickstart.py"))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    accuracy = re.search(r"accuracy on held-out rows: ([0-9.]+)", answer.stdout)
    assert accuracy and float(accuracy[1]) >= 0.95, answer.stdout
    area = re.search(r"validation:auc +: ([0-9.]+)", answer.stdout)
    assert area and float(area[1]) > 0.98, answer.stdout
    assert "/output/model.tar.gz" in answer.stdout


def test_a_job_leaves_its_model_lines_metrics_and_transitions(client):
    sagemaker, s3, logs = client("sagemaker"), client("s3"), client("logs")
    bucket = bucket_of(s3)
    name = unique("whole")
    code = (
        "import os, pathlib\n"
        "for step in (1, 2, 3): print(f'loss={1 / step};', flush=True)\n"
        "print(os.environ['TRAINING_JOB_NAME'])\n"
        "pathlib.Path('/opt/ml/model/weights').write_text('learned')\n"
    )
    request = python_job(name, code)
    request["AlgorithmSpecification"]["MetricDefinitions"] = [
        {"Name": "loss", "Regex": "loss=([0-9.]+);"}
    ]
    arn = sagemaker.create_training_job(**request)["TrainingJobArn"]
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 90}
    )
    job = sagemaker.describe_training_job(TrainingJobName=name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed")
    assert job["TrainingJobArn"] == arn
    artifact = f"s3://{bucket}/models/{name}/output/model.tar.gz"
    assert job["ModelArtifacts"] == {"S3ModelArtifacts": artifact}
    assert job["BillableTimeInSeconds"] >= 1
    assert [(one["MetricName"], round(one["Value"], 3)) for one in job["FinalMetricDataList"]] == [
        ("loss", 0.333)
    ]
    transitions = job["SecondaryStatusTransitions"]
    assert [one["Status"] for one in transitions] == [
        *(["Starting"] if transitions[0]["Status"] == "Starting" else []),
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert all(
        before["EndTime"] == after["StartTime"] for before, after in itertools.pairwise(transitions)
    )
    head = s3.head_object(Bucket=bucket, Key=f"models/{name}/output/model.tar.gz")
    assert head["ContentLength"] > 0

    streams = logs.describe_log_streams(
        logGroupName=TRAIN_GROUP,
        logStreamNamePrefix=f"{name}/",
        orderBy="LogStreamName",
        limit=1,
    )
    assert "nextToken" not in streams
    (stream,) = (one["logStreamName"] for one in streams["logStreams"])
    assert re.fullmatch(rf"{name}/algo-1-\d{{10}}", stream)
    events = logs.get_log_events(logGroupName=TRAIN_GROUP, logStreamName=stream, startFromHead=True)
    assert [one["message"] for one in events["events"]] == [
        "loss=1.0;",
        "loss=0.5;",
        "loss=0.3333333333333333;",
        name,
    ]
    points = client("cloudwatch").get_metric_statistics(
        Namespace=TRAIN_GROUP,
        MetricName="loss",
        Dimensions=[{"Name": "TrainingJobName", "Value": name}],
        StartTime=job["TrainingStartTime"] - datetime.timedelta(minutes=2),
        EndTime=job["TrainingEndTime"] + datetime.timedelta(minutes=2),
        Period=60,
        Statistics=["Average", "Minimum", "SampleCount"],
    )["Datapoints"]
    assert sum(one["SampleCount"] for one in points) == 3
    assert min(one["Minimum"] for one in points) == pytest.approx(1 / 3)


def test_a_failing_script_tells_its_last_line(client):
    sagemaker, s3 = client("sagemaker"), client("s3")
    bucket, name = bucket_of(s3), unique("failing")
    code = archive({"train.py": "def learn():\n    raise ValueError('no column price')\nlearn()\n"})
    s3.put_object(Bucket=bucket, Key=f"{name}/sourcedir.tar.gz", Body=code)
    sagemaker.create_training_job(
        **training_job(
            name,
            HyperParameters={
                "sagemaker_program": "train.py",
                "sagemaker_submit_directory": f"s3://{bucket}/{name}/sourcedir.tar.gz",
            },
        )
    )
    job = ended(sagemaker, name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
    assert job["FailureReason"].startswith("AlgorithmError: ExecuteUserScriptError:"), job
    assert "ValueError: no column price" in job["FailureReason"]
    assert "exit code: 1" in job["FailureReason"]
    with pytest.raises(ClientError) as caught:
        s3.head_object(Bucket=bucket, Key=f"models/{name}/output/model.tar.gz")
    assert refusal(caught)[0] == "404"
    with pytest.raises(WaiterError, match='matched expected path: "Failed"'):
        sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name)


def test_stopping_a_job_keeps_the_model_so_far(client):
    sagemaker, s3 = client("sagemaker"), client("s3")
    bucket, name = bucket_of(s3), unique("stopped")
    code = (
        "import pathlib, time\n"
        "pathlib.Path('/opt/ml/model/epoch').write_text('3')\n"
        "print('an epoch is done', flush=True)\n"
        "time.sleep(600)\n"
    )
    sagemaker.create_training_job(**python_job(name, code))
    wait_until(lambda: lines_of(client("logs"), name) == ["an epoch is done"])
    sagemaker.stop_training_job(TrainingJobName=name)
    assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] in (
        "Stopping",
        "Stopped",
    )
    job = ended(sagemaker, name, 30)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "FailureReason" not in job
    key = f"models/{name}/output/model.tar.gz"
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{bucket}/{key}"
    assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] > 0
    with pytest.raises(ClientError) as caught:
        sagemaker.stop_training_job(TrainingJobName=name)
    assert refusal(caught)[0] == "ValidationException"


def lines_of(logs, name: str) -> list[str]:
    try:
        events = logs.filter_log_events(logGroupName=TRAIN_GROUP, logStreamNamePrefix=f"{name}/")
    except logs.exceptions.ResourceNotFoundException:
        return []
    return [one["message"] for one in events["events"]]


def test_a_job_over_its_time_is_stopped_with_its_model(client):
    sagemaker, s3 = client("sagemaker"), client("s3")
    bucket, name = bucket_of(s3), unique("slow")
    code = "import time; open('/opt/ml/model/so-far', 'w').write('1'); time.sleep(600)"
    condition = {"MaxRuntimeInSeconds": 2}
    sagemaker.create_training_job(**python_job(name, code, StoppingCondition=condition))
    job = ended(sagemaker, name, 60)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert s3.head_object(Bucket=bucket, Key=f"models/{name}/output/model.tar.gz")


def test_a_missing_input_is_told_by_its_address(client):
    sagemaker = client("sagemaker")
    bucket, name = bucket_of(client("s3")), unique("missing")
    channel = {
        "ChannelName": "train",
        "DataSource": {
            "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/nowhere/{name}"}
        },
    }
    with pytest.raises(ClientError) as caught:
        sagemaker.create_training_job(**python_job(name, "pass", InputDataConfig=[channel]))
    assert refusal(caught)[0] == "ValidationException"
    assert "No S3 objects found under S3 URL" in refusal(caught)[1]
    assert f"s3://{bucket}/nowhere/{name}" in refusal(caught)[1]


def test_an_unknown_image_is_named_in_the_reason(client):
    sagemaker, name = client("sagemaker"), unique("unknown")
    image = SKLEARN.replace("sagemaker-scikit-learn", "a-team-image")
    bucket_of(client("s3"))
    specification = {"TrainingImage": image, "TrainingInputMode": "File"}
    sagemaker.create_training_job(**training_job(name, AlgorithmSpecification=specification))
    job = ended(sagemaker, name)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: ")
    assert "a-team-image" in job["FailureReason"]


def test_a_script_may_install_packages_itself(client):
    """FrameworkProcessor and ModelTrainer install requirements so: `python -m pip install` inside the job."""
    sagemaker, name = client("sagemaker"), unique("pip")
    bucket_of(client("s3"))
    code = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-m', 'pip', 'install', 'inflection==0.5.1']\n"
        "subprocess.run(command, check=True)\n"
        "import inflection\n"
    )
    sagemaker.create_training_job(**python_job(name, code))
    job = ended(sagemaker, name)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]


def test_a_second_job_of_a_name_is_refused(client):
    sagemaker, name = client("sagemaker"), unique("twice")
    bucket_of(client("s3"))
    sagemaker.create_training_job(**python_job(name, "pass"))
    with pytest.raises(ClientError) as caught:
        sagemaker.create_training_job(**python_job(name, "pass"))
    assert refusal(caught)[0] == "ResourceInUse"
    assert "already exists" in refusal(caught)[1]
    ended(sagemaker, name)


def test_paginators_walk_every_page_once(client):
    sagemaker, s3 = client("sagemaker"), client("s3")
    bucket, stem = bucket_of(s3), unique("page")
    names = [f"{stem}-{number}" for number in range(5)]
    for name in names:
        sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn="arn:aws:iam::123456789012:role/ClaryExecutionRole",
            PrimaryContainer={"Image": SKLEARN},
        )
        s3.put_object(Bucket=bucket, Key=f"{stem}/{name}", Body=b"x")
    pages = list(
        sagemaker.get_paginator("list_models").paginate(
            NameContains=stem,
            SortBy="Name",
            SortOrder="Ascending",
            PaginationConfig={"PageSize": 2},
        )
    )
    assert [len(page["Models"]) for page in pages] == [2, 2, 1]
    assert [one["ModelName"] for page in pages for one in page["Models"]] == names
    assert "NextToken" not in pages[-1]
    objects = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=f"{stem}/", PaginationConfig={"PageSize": 2}
    )
    assert [one["Key"] for page in objects for one in page.get("Contents", [])] == [
        f"{stem}/{name}" for name in names
    ]


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_presigned_addresses_work_without_a_client(client, version):
    place = {"Bucket": bucket_of(client("s3")), "Key": f"{unique('signed')}/rows.csv"}
    s3 = client("s3", config=Config(signature_version=version))
    put = s3.generate_presigned_url("put_object", Params=place, ExpiresIn=60)
    get = s3.generate_presigned_url("get_object", Params=place, ExpiresIn=60)
    assert ask(put, "PUT", b"1,2,3\n") == (200, b"")
    assert ask(get, "GET") == (200, b"1,2,3\n")
    status, told = ask(get.replace("rows.csv", "others.csv"), "GET")
    assert status == 403 and b"SignatureDoesNotMatch" in told


def ask(address: str, method: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Without the Content-Type that urllib would add: it is part of what the older signature covers."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
