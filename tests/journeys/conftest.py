"""What the journeys share: a real server, the environment that `clary env` exports, and clients as users run them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from clary.cli.ephemeral import ephemeral_installation
from clary.cli.installation import Installation
from tests.journeys.environments import programs_of

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(__file__).parent / "scripts"
ACCOUNT = "123456789012"
REGION = "us-east-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/ClaryExecutionRole"
REGISTRY = f"683313688378.dkr.ecr.{REGION}.amazonaws.com"
SKLEARN = f"{REGISTRY}/sagemaker-scikit-learn:1.2-1-cpu-py3"
XGBOOST = f"{REGISTRY}/sagemaker-xgboost:3.0-5"
JOURNEY_SECONDS = 280


def plain_environment() -> dict[str, str]:
    """This process's environment without anything of Clary's clients, AWS or proxies."""
    unwanted = ("CLARY_HOME", "CLARY_PORT", "AWS_", "SAGEMAKER_", "HTTP_PROXY", "HTTPS_PROXY")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith((*unwanted, "NO_PROXY"))
    }


@pytest.fixture(scope="session")
def server() -> Iterator[Installation]:
    """An ephemeral server, for all journeys of this process."""
    with ephemeral_installation(plain_environment()) as installation:
        yield installation


def exported_by(installation: Installation) -> dict[str, str]:
    """Exactly what `clary env` prints."""
    answer = subprocess.run(
        [sys.executable, "-m", "clary.cli", "env", "--json"],
        env={**plain_environment(), "CLARY_HOME": str(installation.home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.fixture(scope="session")
def exported(server: Installation) -> dict[str, str]:
    return exported_by(server)


Clients = Callable[..., Any]


def boto3_clients(exported: dict[str, str], opened: list[Any]) -> Clients:
    def client(service: str, **options: Any) -> Any:
        session: Any = boto3.Session(
            exported["AWS_ACCESS_KEY_ID"],
            exported["AWS_SECRET_ACCESS_KEY"],
            exported["AWS_SESSION_TOKEN"],
            exported["AWS_REGION"],
        )
        opened.append(session.client(service, endpoint_url=exported["AWS_ENDPOINT_URL"], **options))
        return opened[-1]

    return client


@pytest.fixture
def client(exported: dict[str, str]) -> Iterator[Clients]:
    """boto3 clients of this process, for what a journey wants to check from outside."""
    opened: list[Any] = []
    yield boto3_clients(exported, opened)
    for one in opened:
        one.close()


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(exported: dict[str, str], tmp_path: Path) -> Run:
    """Run a program of a client's environment as a user does: with what `clary env` exports, in a home of its own."""

    def run(
        name: str, program: str, *words: str, seconds: float = JOURNEY_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        programs = programs_of(name)
        environment = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
        return subprocess.run(
            [str(programs / program), *words],
            env={**environment, "PYTHONUNBUFFERED": "1", **exported},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    return run


@pytest.fixture
def journey(run: Run) -> Callable[..., str]:
    """Run a script of `scripts/` to its good end and return what it printed, on either stream."""

    def journey(name: str, script: str, *words: str) -> str:
        answer = run(name, "python", str(SCRIPTS / script), *words)
        told = f"{answer.stdout[-6000:]}\n--- stderr ---\n{answer.stderr[-6000:]}"
        assert answer.returncode == 0, told
        assert answer.stdout.rstrip().endswith("done"), told
        return f"{answer.stderr}\n{answer.stdout}"

    return journey


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)
    return found


def archive(files: dict[str, str]) -> bytes:
    """A tar.gz of text files, as the SDKs make one of a source folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            packed.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def bucket_of(s3: Any) -> str:
    """The default bucket, made if it is not there."""
    name = f"sagemaker-{REGION}-{ACCOUNT}"
    s3.create_bucket(Bucket=name)
    return name


def training_job(name: str, **changes: Any) -> dict[str, Any]:
    """A CreateTrainingJob request that runs nothing yet: give a ContainerEntrypoint or hyperparameters."""
    request = {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": SKLEARN, "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": f"s3://sagemaker-{REGION}-{ACCOUNT}/models"},
        "ResourceConfig": {
            "InstanceType": "ml.m5.large",
            "InstanceCount": 1,
            "VolumeSizeInGB": 5,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    }
    return {**request, **changes}


def python_job(name: str, code: str, **changes: Any) -> dict[str, Any]:
    """A training job that runs a few lines of Python in the scikit-learn image."""
    specification = {
        "TrainingImage": SKLEARN,
        "TrainingInputMode": "File",
        # An argument must be one line; a variable may have several.
        "ContainerEntrypoint": ["python3", "-c", "import os; exec(os.environ['CODE'])"],
    }
    return training_job(
        name, **{"AlgorithmSpecification": specification, "Environment": {"CODE": code}, **changes}
    )


def refusal(caught: pytest.ExceptionInfo[ClientError]) -> tuple[str, str]:
    """The code and the message of an error that a client was told."""
    error = caught.value.response.get("Error", {})
    return error.get("Code", ""), error.get("Message", "")


def ended(sagemaker: Any, name: str, seconds: float = 90.0) -> dict[str, Any]:
    """The description of a training job once it has ended."""

    def terminal() -> dict[str, Any] | None:
        job = sagemaker.describe_training_job(TrainingJobName=name)
        return job if job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped") else None

    return wait_until(terminal, seconds)
