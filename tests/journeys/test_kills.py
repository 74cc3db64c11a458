"""What `kill -9` of any part of the server does to work that runs: nothing but a pause in answers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from botocore.config import Config

from clary.cli.ephemeral import ephemeral_installation
from clary.cli.installation import Installation
from tests.journeys.conftest import (
    ROOT,
    SKLEARN,
    archive,
    boto3_clients,
    bucket_of,
    ended,
    exported_by,
    plain_environment,
    python_job,
    wait_until,
)
from tests.journeys.test_boto3 import lines_of, unique

pytestmark = pytest.mark.xdist_group("kills")

# Each run of the script leaves an object; it ends when it is told to, so that no kill comes too late.
COUNTED = """
import boto3, os, pathlib, time, uuid
s3, place = boto3.client('s3'), os.environ['PLACE']
s3.put_object(Bucket=os.environ['BUCKET'], Key=f'{place}/ran/{uuid.uuid4()}', Body=b'')
print('begun', flush=True)
go = pathlib.Path('/opt/ml/input/data/go')
def told():
    try:
        return s3.head_object(Bucket=os.environ['BUCKET'], Key=f'{place}/go')
    except Exception:
        return None
while not told(): time.sleep(0.2)
pathlib.Path('/opt/ml/model/weights').write_text('learned')
print('finished', flush=True)
"""
HANDLERS = """
def model_fn(model_dir): return 1
def input_fn(body, content_type): return body
def predict_fn(body, model): return body
def output_fn(body, accept): return body
"""


class Victim:
    """A server of this file's own, and what it takes to kill parts of it."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.exported = exported_by(installation)
        self.opened = []
        patient = Config(retries={"mode": "standard", "total_max_attempts": 10})
        client = boto3_clients(self.exported, self.opened)
        self.sagemaker = client("sagemaker", config=patient)
        self.s3 = client("s3", config=patient)
        self.logs = client("logs", config=patient)
        self.runtime = client("sagemaker-runtime", config=Config(retries={"total_max_attempts": 1}))
        self.bucket = bucket_of(self.s3)

    def pid(self, name: str) -> int:
        server = self.installation.server()
        return server["pid"] if name == "supervisor" else server["children"][name]["pid"]

    def kill(self, *names: str) -> None:
        for pid in [self.pid(name) for name in names]:
            # The supervisor's death takes its children with it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def wait_until_well(self) -> None:
        wait_until(lambda: self.installation.health()[0] == 200)

    def begin(self, stem: str) -> str:
        """A training job whose script has begun."""
        name = unique(stem)
        variables = {"CODE": COUNTED, "PLACE": name, "BUCKET": self.bucket}
        self.s3.put_object(Bucket=self.bucket, Key=f"{name}/code", Body=COUNTED.encode())
        request = python_job(name, "", Environment={**variables, "CODE": FETCH})
        self.sagemaker.create_training_job(**request)
        wait_until(lambda: "begun" in lines_of(self.logs, name))
        return name

    def finish(self, name: str) -> None:
        """Let the script end, and check that the job is as if nothing had happened."""
        self.s3.put_object(Bucket=self.bucket, Key=f"{name}/go", Body=b"")
        job = ended(self.sagemaker, name, 60)
        assert job["TrainingJobStatus"] == "Completed", job
        assert "FailureReason" not in job
        key = f"models/{name}/output/model.tar.gz"
        assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{self.bucket}/{key}"
        assert self.s3.head_object(Bucket=self.bucket, Key=key)["ContentLength"] > 0
        runs = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"{name}/ran/")
        assert runs["KeyCount"] == 1, "the script ran more than once"
        wait_until(lambda: lines_of(self.logs, name) == ["begun", "finished"], 15)


FETCH = (
    "import boto3, os\n"
    "body = boto3.client('s3').get_object(Bucket=os.environ['BUCKET'], Key=os.environ['PLACE'] + '/code')\n"
    "exec(body['Body'].read())\n"
)


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    with ephemeral_installation(plain_environment()) as installation:
        victim = Victim(installation)
        yield victim
        for one in victim.opened:
            one.close()


@pytest.fixture(scope="module")
def endpoint(victim: Victim) -> str:
    """An endpoint that answers what it is sent."""
    victim.s3.put_object(
        Bucket=victim.bucket, Key="echo.tar.gz", Body=archive({"code/inference.py": HANDLERS})
    )
    container = {
        "Image": SKLEARN,
        "ModelDataUrl": f"s3://{victim.bucket}/echo.tar.gz",
        "Environment": {
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        },
    }
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": "echo",
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    role = python_job("x", "")["RoleArn"]
    victim.sagemaker.create_model(
        ModelName="echo", ExecutionRoleArn=role, PrimaryContainer=container
    )
    victim.sagemaker.create_endpoint_config(EndpointConfigName="echo", ProductionVariants=[variant])
    victim.sagemaker.create_endpoint(EndpointName="echo", EndpointConfigName="echo")
    waiter = victim.sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName="echo", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    return "echo"


def answer_of(victim: Victim, endpoint: str, body: bytes) -> bytes:
    answer = victim.runtime.invoke_endpoint(
        EndpointName=endpoint, ContentType="text/plain", Body=body
    )
    return answer["Body"].read()


def test_killing_control_stops_neither_the_job_nor_the_endpoint(victim, endpoint):
    name = victim.begin("control")
    before = victim.pid("control")
    victim.kill("control")
    answered_without = 0
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        alone = victim.installation.health()[0] != 200
        assert answer_of(victim, endpoint, b"still here") == b"still here"
        answered_without += alone
        if not alone and victim.pid("control") not in (0, before):
            break
    assert answered_without >= 1, "control was never away"
    victim.finish(name)
    assert answer_of(victim, endpoint, b"after") == b"after"
    assert (
        victim.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] == "InService"
    )


def test_killing_the_door_costs_only_the_connections_it_had(victim, endpoint):
    name = victim.begin("door")
    victim.kill("door")
    victim.wait_until_well()
    assert answer_of(victim, endpoint, b"again") == b"again"
    victim.finish(name)


def test_killing_everything_and_starting_again_finds_the_work(victim, endpoint):
    name = victim.begin("all")
    victim.kill("supervisor", "control", "door")
    wait_until(lambda: victim.installation.health()[0] == 0)
    start_again(victim.installation)
    assert answer_of(victim, endpoint, b"found") == b"found"
    victim.finish(name)


def test_a_job_that_ends_while_everything_is_away_is_told_after(victim):
    """The script ends by its own clock, and its runner keeps the model until somebody takes it."""
    name = unique("away")
    code = "import time; open('/opt/ml/model/m', 'w').write('1'); print('b', flush=True); time.sleep(4)"
    victim.sagemaker.create_training_job(**python_job(name, code))
    wait_until(lambda: lines_of(victim.logs, name) == ["b"])
    victim.kill("supervisor", "control", "door")
    wait_until(lambda: "Uploading" in phases_of_runners(victim.installation))
    start_again(victim.installation)
    job = ended(victim.sagemaker, name, 60)
    assert job["TrainingJobStatus"] == "Completed", job
    assert victim.s3.head_object(Bucket=victim.bucket, Key=f"models/{name}/output/model.tar.gz")


def phases_of_runners(installation: Installation) -> set[str]:
    """What the runners last wrote of themselves, read from their files: nobody else is there to ask."""
    files = installation.home.glob("work/*/g*/algo-1/state.json")
    return {phase for path in files for phase, _ in json.loads(path.read_bytes())["phases"]}


def start_again(installation: Installation) -> None:
    settings = installation.settings
    answer = subprocess.run(
        [sys.executable, "-m", "clary.cli", "up", "--port", str(settings.port), "--json"],
        env={**plain_environment(), "CLARY_HOME": str(settings.home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["url"] == settings.endpoint_url
