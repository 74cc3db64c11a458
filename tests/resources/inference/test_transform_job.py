"""Transform jobs against a real server, with the scikit-learn image serving scripts of the tests' own."""

from __future__ import annotations

import io
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from clary.pytest_plugin import ClaryServer
from clary.reconcile.decisions import Become, Halt
from clary.reconcile.jobs import JobPlan
from clary.reconcile.observations import Exited, Observation, Running
from clary.reconcile.seen import Seen
from clary.resources.inference.transform_job_form import TransformJobForm, TransformPlan
from clary.store.rows import Row
from tests.journeys.conftest import archive

ROLE = "arn:aws:iam::123456789012:role/ClaryExecutionRole"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
GROUP = "/aws/sagemaker/TransformJobs"
JOB_SECONDS = 50.0
SCRIPT = b"""
import os, time

def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept):
    if "refuse" in body:
        raise ValueError("this row is refused")
    if "crash" in body:
        os._exit(9)
    if "slow" in body:
        time.sleep(1)
    if "environment" in body:
        names = sorted(name for name in os.environ if name.startswith(("SAGEMAKER_M", "SAGEMAKER_B")))
        return "\\n".join(name + "=" + os.environ[name] for name in names), accept
    return "\\n".join(str(len(row.split(","))) for row in body.splitlines()), accept
"""


class Bench:
    """One bucket and one model, and jobs that transform one with the other."""

    def __init__(self, server: ClaryServer) -> None:
        self.sagemaker = server.client("sagemaker")
        self.s3 = server.client("s3")
        self.logs = server.client("logs")
        self.bucket = f"transform-{uuid.uuid4().hex[:8]}"
        self.s3.create_bucket(Bucket=self.bucket)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            member = tarfile.TarInfo("code/inference.py")
            member.size = len(SCRIPT)
            archive.addfile(member, io.BytesIO(SCRIPT))
        self.put("model.tar.gz", packed.getvalue())

    def put(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def model(self, **members: Any) -> str:
        name = f"model-{uuid.uuid4().hex[:8]}"
        container = {
            "Image": IMAGE,
            "ModelDataUrl": f"s3://{self.bucket}/model.tar.gz",
            "Environment": {
                "SAGEMAKER_PROGRAM": "inference.py",
                "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
            },
        }
        request = {"PrimaryContainer": container, "ExecutionRoleArn": ROLE, **members}
        self.sagemaker.create_model(ModelName=name, **request)
        return name

    def request(self, model: str, files: dict[str, bytes], **members: Any) -> dict[str, Any]:
        """A CreateTransformJob of these files; `members` replace or extend its members."""
        name = f"job-{uuid.uuid4().hex[:8]}"
        for key, body in files.items():
            self.put(f"{name}/in/{key}", body)
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{self.bucket}/{name}/in"}
        return {
            "TransformJobName": name,
            "ModelName": model,
            "BatchStrategy": "MultiRecord",
            **members,
            "TransformInput": {
                "DataSource": {"S3DataSource": source},
                "ContentType": "text/csv",
                "SplitType": "Line",
                **members.get("TransformInput", {}),
            },
            "TransformOutput": {
                "S3OutputPath": f"s3://{self.bucket}/{name}/out",
                "Accept": "text/csv",
                "AssembleWith": "Line",
                **members.get("TransformOutput", {}),
            },
            "TransformResources": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": members.get("instances", 1),
            },
        }

    def start(self, model: str, files: dict[str, bytes], **members: Any) -> str:
        request = self.request(model, files, **members)
        request.pop("instances", None)
        self.sagemaker.create_transform_job(**request)
        return request["TransformJobName"]

    def describe(self, name: str) -> dict[str, Any]:
        return self.sagemaker.describe_transform_job(TransformJobName=name)

    def ended(self, name: str) -> dict[str, Any]:
        return until(
            lambda: self.describe(name),
            lambda job: job["TransformJobStatus"] not in ("InProgress", "Stopping"),
        )

    def outputs(self, name: str) -> dict[str, bytes]:
        prefix = f"{name}/out/"
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return {
            one["Key"].removeprefix(prefix): self.s3.get_object(Bucket=self.bucket, Key=one["Key"])[
                "Body"
            ].read()
            for one in listed
        }

    def lines(self, name: str) -> dict[str, list[str]]:
        """The job's log streams and their lines."""
        streams = self.logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")
        return {
            one["logStreamName"]: [
                event["message"]
                for event in self.logs.get_log_events(
                    logGroupName=GROUP, logStreamName=one["logStreamName"]
                )["events"]
            ]
            for one in streams["logStreams"]
        }


def until(look: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + JOB_SECONDS
    while True:
        found = look()
        if holds(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


@pytest.fixture(scope="module")
def bench(clary: ClaryServer) -> Iterator[Bench]:
    yield Bench(clary)


@pytest.fixture(scope="module")
def model(bench: Bench) -> str:
    return bench.model()


def test_a_job_joins_its_answers_with_its_input_and_outlives_its_model(bench: Bench) -> None:
    model = bench.model()
    files = {"a.csv": b"x,1,2\ny,3,4\n", "b/c.csv": b"z,5,6\n"}
    processing = {"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"}
    name = bench.start(model, files, DataProcessing=processing)
    bench.sagemaker.delete_model(ModelName=model)
    job = bench.ended(name)
    assert job["TransformJobStatus"] == "Completed", job
    assert bench.outputs(name) == {"a.csv.out": b"x,2\ny,2\n", "b/c.csv.out": b"z,2\n"}
    assert job["TransformJobArn"].endswith(f":transform-job/{name}")
    assert job["DataProcessing"] == processing
    assert job["CreationTime"] <= job["TransformStartTime"] <= job["TransformEndTime"]
    server, data = sorted(bench.lines(name))
    assert server.startswith(f"{name}/i-") and data == f"{server}/data-log"
    listed = bench.sagemaker.list_transform_jobs(NameContains=name)["TransformJobSummaries"]
    assert [one["TransformJobStatus"] for one in listed] == ["Completed"]


def test_the_container_is_told_how_the_batch_runs(bench: Bench, model: str) -> None:
    name = bench.start(
        model,
        {"ask.csv": b"environment\n"},
        BatchStrategy="SingleRecord",
        MaxPayloadInMB=3,
        MaxConcurrentTransforms=2,
        Environment={"SAGEMAKER_MODEL_SERVER_WORKERS": "1"},
    )
    assert bench.ended(name)["TransformJobStatus"] == "Completed"
    assert bench.outputs(name)["ask.csv.out"].decode().splitlines() == [
        "SAGEMAKER_BATCH=true",
        "SAGEMAKER_BATCH_STRATEGY=SINGLE_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS=2",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB=3",
        "SAGEMAKER_MODEL_SERVER_WORKERS=1",
    ]


def test_a_refused_file_fails_the_job_and_no_other_file(bench: Bench, model: str) -> None:
    files = {"a.csv": b"1\n", "b.csv": b"good\nrefuse\n", "c.csv": b"slow\n", "d.csv": b"4\n"}
    name = bench.start(
        model, files, instances=2, BatchStrategy="SingleRecord",
        ModelClientConfig={"InvocationsMaxRetries": 0, "InvocationsTimeoutInSeconds": 20},
    )  # fmt: skip
    job = bench.ended(name)
    assert job["TransformJobStatus"] == "Failed"
    reason = job["FailureReason"]
    assert reason.startswith("AlgorithmError: Bad HTTP status received from algorithm: 500 (s3://")
    assert f"{name}/in/b.csv, record 2): ValueError: this row is refused" in reason
    assert "exit code" not in reason
    assert sorted(bench.outputs(name)) == ["a.csv.out", "c.csv.out", "d.csv.out"]
    told = [line for lines in bench.lines(name).values() for line in lines]
    where = f"{bench.bucket}/{name}/in/b.csv:"
    assert any(line.endswith(f"{where} AlgorithmError: 500") for line in told), told


def test_stopping_a_job_keeps_whole_files_only(bench: Bench, model: str) -> None:
    files = {"a.csv": b"1\n", "b.csv": b"slow\n" * 100}
    name = bench.start(model, files, BatchStrategy="SingleRecord")
    until(lambda: bench.outputs(name), lambda found: "a.csv.out" in found)
    bench.sagemaker.stop_transform_job(TransformJobName=name)
    job = bench.ended(name)
    assert job["TransformJobStatus"] == "Stopped"
    assert "FailureReason" not in job
    assert list(bench.outputs(name)) == ["a.csv.out"]
    with pytest.raises(ClientError, match="transform job is in status Stopped"):
        bench.sagemaker.stop_transform_job(TransformJobName=name)


def test_a_record_that_kills_its_process_fails_the_job_and_is_named(
    bench: Bench, model: str
) -> None:
    name = bench.start(model, {"a.csv": b"crash\n"})
    job = bench.ended(name)
    assert job["TransformJobStatus"] == "Failed"
    reason = "Unable to get response from algorithm: the connection was closed before an answer"
    assert job["FailureReason"].startswith(f"AlgorithmError: {reason}")
    assert "/in/a.csv, record 1)" in job["FailureReason"]
    assert bench.outputs(name) == {}


def test_a_model_without_network_transforms_all_the_same(bench: Bench) -> None:
    name = bench.start(bench.model(EnableNetworkIsolation=True), {"a.csv": b"1,2,3\n"})
    job = bench.ended(name)
    assert job["TransformJobStatus"] == "Completed", job
    assert bench.outputs(name) == {"a.csv.out": b"3\n"}


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (
            {"ModelName": "nobody"},
            'Could not find model "arn:aws:sagemaker:us-east-1:123456789012:',
        ),
        ({"MaxPayloadInMB": 101}, "must not be greater than 100"),
        ({"MaxPayloadInMB": 30, "MaxConcurrentTransforms": 4}, "is 120 MB; it must not exceed 100"),
        ({"DataProcessing": {"InputFilter": "$..a"}}, "InputFilter: the JSONPath"),
        (
            {"DataProcessing": {"JoinSource": "Input"}, "TransformInput": {"SplitType": "None"}},
            r"SplitType \(None\) and AssembleWith \(Line\) must be the same",
        ),
        (
            {
                "DataProcessing": {"JoinSource": "Input"},
                "TransformOutput": {"Accept": "application/json"},
            },
            r"ContentType \(text/csv\) and Accept \(application/json\) must be the same",
        ),
        (
            {
                "DataProcessing": {"OutputFilter": "$[0]"},
                "TransformInput": {"ContentType": "image/png"},
            },
            "DataProcessing needs a ContentType of text/csv",
        ),
    ],
)
def test_a_request_that_cannot_work_is_refused(
    bench: Bench, model: str, members: dict[str, Any], reason: str
) -> None:
    request = bench.request(model, {"a.csv": b"1\n"}, **members)
    with pytest.raises(ClientError, match=reason) as caught:
        bench.sagemaker.create_transform_job(
            **{**request, "ModelName": members.get("ModelName", model)}
        )
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_an_input_without_objects_is_refused(bench: Bench, model: str) -> None:
    with pytest.raises(ClientError, match="No S3 objects found under S3 URL") as caught:
        bench.sagemaker.create_transform_job(**bench.request(model, {}))
    assert ROLE in str(caught.value)


def pipeline(bench: Bench, *scripts: str, **members: Any) -> str:
    """A model of several containers, each with a script of its own."""
    name = f"pipeline-{uuid.uuid4().hex[:8]}"
    containers: list[dict[str, Any]] = []
    for number, script in enumerate(scripts):
        key = f"{name}/{number}.tar.gz"
        bench.put(key, archive({"code/inference.py": f"def model_fn(folder): pass\n{script}"}))
        variables = {
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        }
        containers.append(
            {
                "Image": IMAGE,
                "ModelDataUrl": f"s3://{bench.bucket}/{key}",
                "Environment": variables,
                "ContainerHostname": ("clean", "predict")[number],
            }
        )
    bench.sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=ROLE, Containers=containers, **members
    )
    return name


CLEAN = """
def transform_fn(model, body, content_type, accept):
    return body.replace(";", ","), "text/csv"
"""
PREDICT = """
def transform_fn(model, body, content_type, accept):
    if "refuse" in body:
        raise ValueError("this row is refused")
    rows = [row.split(",") for row in body.splitlines()]
    return "\\n".join(f"{len(row)} of {content_type}" for row in rows), accept
"""


def test_a_batch_goes_through_all_containers_of_a_pipeline(bench: Bench) -> None:
    files = {"a.csv": b"1;2;3\n4;5\n", "b.csv": b"refuse\n"}
    name = bench.start(pipeline(bench, CLEAN, PREDICT), files)
    job = bench.ended(name)
    assert job["TransformJobStatus"] == "Failed"
    assert "(container predict)" in job["FailureReason"], job["FailureReason"]
    assert "this row is refused" in job["FailureReason"]
    # The first container had no word in what the job accepts, the second was told what it got.
    assert bench.outputs(name) == {"a.csv.out": b"3 of text/csv\n2 of text/csv\n"}
    streams = {stream.rsplit("/", 1)[1] for stream in bench.lines(name)}
    assert {"clean", "predict", "data-log"} <= streams


def test_a_job_cannot_choose_among_models_or_containers(bench: Bench) -> None:
    direct = pipeline(bench, CLEAN, PREDICT, InferenceExecutionConfig={"Mode": "Direct"})
    several = {"Image": IMAGE, "ModelDataUrl": f"s3://{bench.bucket}/models/", "Mode": "MultiModel"}
    for model, reason in (
        (direct, "Mode is Direct"),
        (bench.model(PrimaryContainer=several), "has a multi-model container"),
    ):
        with pytest.raises(ClientError, match=reason) as caught:
            bench.sagemaker.create_transform_job(**bench.request(model, {"a.csv": b"1\n"}))
        assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_an_unknown_job_is_told_in_the_words_that_clients_match(bench: Bench) -> None:
    with pytest.raises(ClientError, match="Could not find requested job with name: nobody"):
        bench.describe("nobody")


def failed(outputs: dict[str, Any]) -> Exited:
    return Exited({"result": "failure", "failure": "bad row", "outputs": outputs, "ended": 2.0})


@pytest.mark.parametrize(
    ("outputs", "halts"), [({"transform": {"files": 3, "failed": 1}}, False), ({}, True)]
)
def test_only_an_instance_that_broke_ends_the_others(outputs: dict[str, Any], halts: bool) -> None:
    row = Row(kind="TransformJob", name="job", arn="arn", status="InProgress")
    row.document = {"TransformResources": {"InstanceCount": 2}}
    row.state = {"hosts": {"algo-1": {}, "algo-2": {}}, "model": {"containers": [{}]}}
    plan = TransformPlan(JobPlan(TransformJobForm()))
    seen = Seen(now=3.0, hosts={"algo-1": failed(outputs), "algo-2": Running()})
    assert any(isinstance(one, Halt) for one in plan(row, seen)) is halts
    done = Seen(now=3.0, hosts={"algo-1": failed(outputs), "algo-2": Exited({"result": "success"})})
    told = plan(row, done)[0]
    assert isinstance(told, Become) and told.status == "Failed"


def test_containers_that_follow_are_halted_once_nobody_asks_them() -> None:
    row = Row(kind="TransformJob", name="job", arn="arn", status="InProgress")
    row.document = {"TransformResources": {"InstanceCount": 1}}
    row.state = {"hosts": {"algo-1": {}, "algo-1c1": {}}, "model": {"containers": [{}, {}]}}
    plan = TransformPlan(JobPlan(TransformJobForm()))
    assert TransformJobForm().hosts(row) == ("algo-1", "algo-1c1")

    def planned(leader: Observation, following: Observation) -> list[Any]:
        return list(plan(row, Seen(now=3.0, hosts={"algo-1": leader, "algo-1c1": following})))

    success, stopped = Exited({"result": "success"}), Exited({"result": "stopped"})
    assert planned(success, Running())[0] == Halt(("algo-1c1",))
    (told, *_) = planned(success, stopped)
    assert told.status == "Completed"
    # One that ends by itself takes the job along, and names the reason.
    broken = Exited({"result": "failure", "failure": "no memory", "ended": 1.0})
    assert planned(Running(), broken)[0] == Halt(("algo-1",))
    ended = planned(stopped, broken)[0]
    assert ended.status == "Failed" and "no memory" in ended.fields["FailureReason"]
