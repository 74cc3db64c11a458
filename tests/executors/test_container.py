"""Images of a user's own run on a real container engine: training, processing and serving, through the API."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from clary.cli.client_environment import client_environment
from clary.cli.ephemeral import ephemeral_installation
from clary.cli.installation import Installation
from clary.cli.signed_calls import role_session
from clary.executors.container import remove_left
from clary.executors.sandbox import SandboxExecutor
from clary.images.catalogue import resolve
from clary.images.containers import add
from clary.images.image import UnknownImage
from clary.reconcile.observations import Exited
from clary.runner.container_recipe import MARKER
from clary.runner.engine_api import Engine
from clary.runner.locks import is_held
from clary.settings import Settings

from .container_engine import (
    IMAGE,
    as_oci_archive,
    build,
    registry_of,
    running_engine,
    save,
    why_not,
)

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

ROLE = "arn:aws:iam::123456789012:role/ClaryExecutionRole"
BUCKET = "containers"
SECONDS_MAX = 60.0


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with running_engine() as engine:
        build(engine, IMAGE)
        yield engine


@pytest.fixture(scope="module")
def docker_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `docker login` leaves what it was told."""
    return tmp_path_factory.mktemp("docker")


@pytest.fixture(scope="module")
def installation(engine: Engine, docker_config: Path) -> Iterator[Installation]:
    unwanted = ("CLARY_HOME", "CLARY_PORT", "AWS_", "SAGEMAKER_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
    ours = {"CLARY_CONTAINERS": engine.path, "DOCKER_CONFIG": str(docker_config)}
    with ephemeral_installation({**kept, **ours}) as installation:
        yield installation


class Platform:
    """Clients of a server, and the few requests that the tests make."""

    def __init__(self, installation: Installation) -> None:
        keys = role_session(installation)
        self._variables = client_environment(installation, keys, os.environ)
        self._clients: list[Any] = []
        self.sagemaker, self.s3 = self._client("sagemaker"), self._client("s3")
        self.runtime, self.logs = self._client("sagemaker-runtime"), self._client("logs")
        self.s3.create_bucket(Bucket=BUCKET)

    def _client(self, service: str) -> Any:
        session: Any = boto3.Session(
            self._variables["AWS_ACCESS_KEY_ID"],
            self._variables["AWS_SECRET_ACCESS_KEY"],
            self._variables["AWS_SESSION_TOKEN"],
            self._variables["AWS_REGION"],
        )
        url = self._variables["AWS_ENDPOINT_URL"]
        self._clients.append(session.client(service, endpoint_url=url))
        return self._clients[-1]

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def train(self, name: str, code: str, image: str = IMAGE, **changes: Any) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=f"{name}/code.sh", Body=code.encode())
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{name}"}
        count = changes.pop("InstanceCount", 1)
        request: dict[str, Any] = {
            "TrainingJobName": name,
            "RoleArn": ROLE,
            "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"},
            "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/models"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": count,
                "VolumeSizeInGB": 5,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        }
        self.sagemaker.create_training_job(**{**request, **changes})

    def job(self, name: str) -> dict[str, Any]:
        return self.sagemaker.describe_training_job(TrainingJobName=name)

    def ended(self, name: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            job = self.job(name)
            return job if job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped") else None

        return wait_for(found)

    def lines(self, group: str, stem: str) -> list[str]:
        streams = self.logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=stem)
        return [
            event["message"]
            for stream in streams["logStreams"]
            for event in self.logs.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
            )["events"]
        ]

    def artifact(self, job: dict[str, Any]) -> dict[str, bytes]:
        bucket, _, key = job["ModelArtifacts"]["S3ModelArtifacts"][5:].partition("/")
        body = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body)) as packed:
            files = [member for member in packed if member.isfile()]
            return {one.name: packed.extractfile(one).read() for one in files}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def platform(installation: Installation) -> Iterator[Platform]:
    platform = Platform(installation)
    yield platform
    platform.close()


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS_MAX
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)
    return found


def containers(engine: Engine) -> list[dict[str, Any]]:
    return engine.call("GET", "/containers/json", all="true")


def test_an_image_of_the_engine_trains_with_the_argument_train(
    platform: Platform, engine: Engine
) -> None:
    code = (
        "cat input/config/hyperparameters.json > model/given.json; env; echo 'loss: 0.25'; "
        "ask-credentials > model/credentials"
    )
    metric = {"Name": "loss", "Regex": "loss: ([0-9.]+)"}
    specification = {"TrainingImage": IMAGE, "TrainingInputMode": "File"}
    platform.train(
        "trains",
        code,
        HyperParameters={"depth": "7"},
        AlgorithmSpecification={**specification, "MetricDefinitions": [metric]},
        Environment={"SAID": "by the user"},
    )
    job = platform.ended("trains")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    made = {"given.json": b'{"depth": "7"}', "credentials": b'"AccessKeyId"\n'}
    assert platform.artifact(job) == made
    assert [one["Value"] for one in job["FinalMetricDataList"]] == [0.25]
    lines = platform.lines("/aws/sagemaker/TrainingJobs", "trains")
    assert "argument train on algo-1" in lines
    assert "SAID=by the user" in lines
    assert "TRAINING_JOB_NAME=trains" in lines
    assert containers(engine) == []


def test_a_failure_file_and_the_exit_code_tell_why_a_container_failed(platform: Platform) -> None:
    platform.train("fails", "echo 'no such feature' > output/failure; exit 3")
    platform.train("fails-silently", "exit 4")
    platform.train("fails-to-start", "", AlgorithmSpecification=_entry_point("/bin/absent"))
    failures = [platform.ended(name) for name in ("fails", "fails-silently", "fails-to-start")]
    assert [job["TrainingJobStatus"] for job in failures] == ["Failed"] * 3
    assert failures[0]["FailureReason"].startswith("AlgorithmError: no such feature")
    assert "exit code: 3" in failures[0]["FailureReason"]
    assert "exit code: 4" in failures[1]["FailureReason"]
    assert "exit code: 127" in failures[2]["FailureReason"]
    lines = platform.lines("/aws/sagemaker/TrainingJobs", "fails-to-start")
    assert any("/bin/absent" in line for line in lines)


def _entry_point(*words: str) -> dict[str, Any]:
    return {
        "TrainingImage": IMAGE,
        "TrainingInputMode": "File",
        "ContainerEntrypoint": list(words),
    }


def test_stopping_a_container_asks_it_first_and_keeps_its_model(
    platform: Platform, engine: Engine
) -> None:
    code = "trap 'echo asked; echo half > model/half; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    platform.train("stops", code)
    wait_for(lambda: _has_begun(platform, "stops") and _said(platform, "stops", "up"))
    platform.sagemaker.stop_training_job(TrainingJobName="stops")
    job = platform.ended("stops")
    assert job["TrainingJobStatus"] == "Stopped"
    assert platform.artifact(job) == {"half": b"half\n"}
    assert "asked" in platform.lines("/aws/sagemaker/TrainingJobs", "stops")
    assert containers(engine) == []


def _has_begun(platform: Platform, name: str) -> bool:
    return platform.job(name)["SecondaryStatus"] == "Training"


def _said(platform: Platform, name: str, line: str) -> bool:
    try:
        return line in platform.lines("/aws/sagemaker/TrainingJobs", name)
    except platform.logs.exceptions.ResourceNotFoundException:
        return False  # nothing was said yet


def test_isolated_hosts_meet_one_another_and_nobody_else(platform: Platform) -> None:
    code = """
env | grep AWS_ && exit 9
grep -q '"current_host": *"algo-1"' input/config/resourceconfig.json && host=1 || host=2
ip link | grep -c mtu > model/links-$host
if [ $host = 1 ]
then nc -l -p 7411 -e echo pong
else
  for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    said=$(nc algo-1 7411 2>/dev/null </dev/null) && [ -n "$said" ] && break; sleep 0.3
  done
  echo "heard $said" | sed 's/^/- /'; [ "$said" = pong ]
fi
"""
    platform.train("isolated", code, InstanceCount=2, EnableNetworkIsolation=True)
    job = platform.ended("isolated")
    lines = platform.lines("/aws/sagemaker/TrainingJobs", "isolated")
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lines)
    assert "- heard pong" in lines
    # The loopback device alone.
    assert platform.artifact(job) == {"links-1": b"1\n", "links-2": b"1\n"}


def outcome_of(
    engine: Engine, folder: Path, script: str, *, limits: dict[str, Any], user: str = ""
) -> dict[str, Any]:
    """Run one host of a work through the executor, forget it, and return what became of it."""
    directory = folder / "algo-1"
    container = {"engine": engine.path, "image": IMAGE, "entry_point": True, "user": user}
    spec = {
        "version": 1,
        "work": "arn:aws:sagemaker:us-east-1:123456789012:training-job/own",
        "generation": 1,
        "host": "algo-1",
        "hosts": ["algo-1"],
        "directory": str(directory),
        "shared": str(folder),
        "endpoint_url": "http://127.0.0.1:9",
        "region": "us-east-1",
        "program": {"argv": ["/bin/sh", "-c", script], "container": container},
        "limits": {"seconds": 60, **limits},
        "grace_seconds": 0.2,
        "failure_file": "output/failure",
    }
    executor = SandboxExecutor(Settings(home=folder / "home"))
    try:
        executor.launch([spec])
        executor.launch([spec])  # as a control that was killed does it again
        seen = wait_for(lambda: isinstance(one := executor.observe([directory])[0], Exited) and one)
        wait_for(lambda: not is_held(str(directory / "runner.lock")))
        assert not (directory / MARKER).exists()
        executor.forget([directory])
        assert not directory.exists()
    finally:
        executor.close()
    return seen.outcome


def test_more_memory_than_the_limit_is_named_as_the_reason(engine: Engine, tmp_path: Path) -> None:
    hungry = 'x=$(dd if=/dev/zero bs=1M count=64 2>/dev/null | tr "\\0" x); echo ${#x}'
    outcome = outcome_of(engine, tmp_path, hungry, limits={"memory_bytes": 24 * 1024 * 1024})
    assert (outcome["result"], outcome["out_of_memory"]) == ("failure", True)
    assert "wanted more memory than the 24 MiB" in outcome["failure"]


def test_a_container_that_ignores_the_end_of_its_time_is_killed(
    engine: Engine, tmp_path: Path
) -> None:
    deaf = "trap '' TERM; while :; do sleep 0.1; done"
    outcome = outcome_of(engine, tmp_path, deaf, limits={"seconds": 2})
    assert (outcome["result"], outcome["exit_code"]) == ("timeout", 137)


def test_an_image_may_run_as_any_user(engine: Engine, tmp_path: Path) -> None:
    script = '[ "$(id -u)" = 65534 ] && echo "seen by all" > /opt/ml/output/failure; exit 5'
    outcome = outcome_of(engine, tmp_path, script, limits={}, user="65534:65534")
    assert (outcome["exit_code"], outcome["failure"].strip()) == (5, "seen by all")


def test_a_killed_runner_leaves_no_container(
    platform: Platform, engine: Engine, installation: Installation
) -> None:
    platform.train("killed", "echo up; while :; do sleep 0.1; done")
    wait_for(lambda: _has_begun(platform, "killed") and containers(engine))
    locks = list((installation.home / "work").glob("*/g1/algo-1/runner.lock"))
    runners = [int(lock.read_text()) for lock in locks if is_held(str(lock))]
    assert len(runners) == 1
    os.kill(runners[0], signal.SIGKILL)
    wait_for(lambda: not containers(engine))
    job = platform.ended("killed")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("InternalServerError")


def test_processing_runs_the_entry_point_and_the_arguments_that_it_is_given(
    platform: Platform,
) -> None:
    folder = "/opt/ml/processing"
    platform.s3.put_object(Bucket=BUCKET, Key="raw/a.txt", Body=b"abc")
    script = f"tr a-z A-Z < {folder}/in/a.txt > {folder}/out/$0.txt; ls / > {folder}/out/root"
    source = {"S3Uri": f"s3://{BUCKET}/raw", "LocalPath": f"{folder}/in", "S3DataType": "S3Prefix"}
    target = {"S3Uri": f"s3://{BUCKET}/cooked", "LocalPath": f"{folder}/out"}
    platform.sagemaker.create_processing_job(
        ProcessingJobName="cooks",
        RoleArn=ROLE,
        AppSpecification={
            "ImageUri": IMAGE,
            "ContainerEntrypoint": ["sh", "-c", script],
            "ContainerArguments": ["upper"],
        },
        ProcessingResources={
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": "ml.m5.large",
                "VolumeSizeInGB": 5,
            }
        },
        ProcessingInputs=[{"InputName": "in", "S3Input": {**source, "S3InputMode": "File"}}],
        ProcessingOutputConfig={
            "Outputs": [{"OutputName": "out", "S3Output": {**target, "S3UploadMode": "EndOfJob"}}]
        },
    )

    def ended() -> dict[str, Any] | None:
        job = platform.sagemaker.describe_processing_job(ProcessingJobName="cooks")
        return job if job["ProcessingJobStatus"] in ("Completed", "Failed") else None

    job = wait_for(ended)
    assert job["ProcessingJobStatus"] == "Completed", job
    read = platform.s3.get_object(Bucket=BUCKET, Key="cooked/upper.txt")["Body"].read()
    assert read == b"ABC"
    root = platform.s3.get_object(Bucket=BUCKET, Key="cooked/root")["Body"].read().decode().split()
    assert set(root) == {"bin", "dev", "etc", "opt", "proc", "sys", "tmp"}


@pytest.mark.parametrize("isolated", [False, True])
def test_a_container_serves_on_port_8080(
    platform: Platform, engine: Engine, isolated: bool
) -> None:
    name = f"serves-{'alone' if isolated else 'openly'}"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("weights")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"0.5"))
    platform.s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=packed.getvalue())
    sagemaker = platform.sagemaker
    sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"},
        EnableNetworkIsolation=isolated,
    )
    variant = {"VariantName": "A", "ModelName": name, "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[{**variant, "InstanceType": "ml.m5.large"}]
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def settled() -> dict[str, Any] | None:
        endpoint = sagemaker.describe_endpoint(EndpointName=name)
        return endpoint if endpoint["EndpointStatus"] not in ("Creating",) else None

    endpoint = wait_for(settled)
    assert endpoint["EndpointStatus"] == "InService", endpoint.get("FailureReason")
    for said in ("one", "two"):
        answer = platform.runtime.invoke_endpoint(EndpointName=name, Body=said.encode())
        assert answer["Body"].read().decode() == f"/invocations {said} 0.5"
    if not isolated:
        answer = platform.runtime.invoke_endpoint(EndpointName=name, Body=b"door")
        assert answer["Body"].read().decode() == '/invocations "AccessKeyId" 0.5'
    sagemaker.delete_endpoint(EndpointName=name)
    wait_for(lambda: not containers(engine))


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_an_image_comes_from_an_archive_in_s3(
    platform: Platform, engine: Engine, installation: Installation, form: str
) -> None:
    uri = f"registry.example.com/team/{form}:3"
    data = save(engine, IMAGE)
    archive = data if form == "docker" else as_oci_archive(data)
    platform.s3.put_object(Bucket=BUCKET, Key=f"{form}.tar", Body=archive)
    add(uri, installation.settings, archive=f"s3://{BUCKET}/{form}.tar")
    platform.train(f"from-{form}", "echo here > model/x", image=uri)
    job = platform.ended(f"from-{form}")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert platform.artifact(job) == {"x": b"here\n"}


def test_an_image_is_pulled_from_a_registry_with_the_login_that_docker_keeps(
    platform: Platform, engine: Engine, installation: Installation, docker_config: Path
) -> None:
    with registry_of(as_oci_archive(save(engine, IMAGE)), "user:secret") as registry:
        uri = f"{registry}/team/pulled:2"
        add(uri, installation.settings)
        platform.train("pulled-unknown", "true", image=uri)
        reason = platform.ended("pulled-unknown")["FailureReason"]
        assert "no basic auth credentials" in reason
        auth = base64.b64encode(b"user:secret").decode()
        config = json.dumps({"auths": {registry: {"auth": auth}}})
        (docker_config / "config.json").write_text(config)
        platform.train("pulled", "echo here > model/x", image=uri)
        job = platform.ended("pulled")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert platform.artifact(job) == {"x": b"here\n"}


def test_a_container_whose_keeper_was_killed_goes_with_its_host(
    engine: Engine, tmp_path: Path
) -> None:
    words = {"Image": IMAGE, "Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": "none"}}
    engine.start(engine.create("clary-left", words))
    marker = tmp_path / MARKER
    marker.write_text(json.dumps({"engine": engine.path, "name": "clary-left"}))
    remove_left(tmp_path)
    assert engine.inspect("clary-left") is None
    remove_left(tmp_path)  # as often as it takes


def test_an_image_that_nobody_has_fails_with_the_ways_to_bring_it(
    platform: Platform, installation: Installation, engine: Engine
) -> None:
    platform.train("unknown", "true", image="team/absent:1")
    reason = platform.ended("unknown")["FailureReason"]
    assert "Clary knows no environment for the image team/absent:1" in reason
    nowhere = replace(installation.settings, containers="/nowhere.sock")
    never = replace(installation.settings, containers="never")
    here = replace(installation.settings, containers=engine.path)
    with pytest.raises(UnknownImage, match=r"none here: install one .*docker\.io"):
        resolve(IMAGE, nowhere)
    with pytest.raises(UnknownImage, match="CLARY_CONTAINERS=never forbids"):
        resolve(IMAGE, never)
    with pytest.raises(UnknownImage, match=r"clary images add team/absent:1 --container"):
        resolve("team/absent:1", here)
    assert resolve(IMAGE, here).container == IMAGE


def test_an_archive_that_is_none_and_a_registry_that_is_not_there_are_told(
    platform: Platform, installation: Installation
) -> None:
    platform.s3.put_object(Bucket=BUCKET, Key="junk.tar", Body=b"junk" * 1000)
    add("team/junk:1", installation.settings, archive=f"s3://{BUCKET}/junk.tar")
    add("127.0.0.1:9/team/pulled:1", installation.settings)
    platform.train("junk", "true", image="team/junk:1")
    platform.train("refused", "true", image="127.0.0.1:9/team/pulled:1")
    assert (
        "s3://containers/junk.tar is not an image archive"
        in platform.ended("junk")["FailureReason"]
    )
    assert "connection refused" in platform.ended("refused")["FailureReason"]


def test_a_batch_transform_asks_the_container(platform: Platform) -> None:
    platform.s3.put_object(Bucket=BUCKET, Key="batch/one.txt", Body=b"first")
    model = {"Image": IMAGE, "Environment": {"SAGEMAKER_MODEL": "none"}}
    platform.sagemaker.create_model(
        ModelName="batch", ExecutionRoleArn=ROLE, PrimaryContainer=model
    )
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/batch/"}
    platform.sagemaker.create_transform_job(
        TransformJobName="batch",
        ModelName="batch",
        TransformInput={"DataSource": {"S3DataSource": source}},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/answers"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )

    def ended() -> dict[str, Any] | None:
        job = platform.sagemaker.describe_transform_job(TransformJobName="batch")
        return job if job["TransformJobStatus"] in ("Completed", "Failed") else None

    job = wait_for(ended)
    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    read = platform.s3.get_object(Bucket=BUCKET, Key="answers/one.txt.out")["Body"].read()
    assert read.startswith(b"/invocations first")
