"""Jobs on two real Ray nodes in two network namespaces, and what is said where there is no cluster."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clary.cli.installation import Installation
from clary.cli.processes import free_port, start, stop, wait_until_ready
from clary.executors.contract import LaunchError
from clary.executors.ray_cluster import RayExecutor
from clary.images.uv import EnvironmentFailed
from clary.reconcile.observations import Absent
from clary.settings import Settings
from tests.executors.ray_nodes import RayNodes, ray_node_test_problem, ray_nodes, ray_python
from tests.journeys.conftest import boto3_clients, bucket_of, exported_by, plain_environment
from tests.resources.training.conftest import Training, resources, statuses, wait_until

MEET = """
import socket, pathlib
host = socket.gethostname()
print(host, socket.gethostbyname(host), flush=True)
if host == "algo-1":
    with socket.create_server((host, 7400)) as server:
        print("met", server.accept()[1][0])
else:
    import time
    for _ in range(300):
        try:
            socket.create_connection(("algo-1", 7400), 5).close()
            break
        except OSError:
            time.sleep(0.1)
pathlib.Path("/opt/ml/model", host).write_text(host)
"""
# Says where it is, and goes on once somebody has called it there.
WAITS = """
import socket, pathlib
host = socket.gethostbyname(socket.gethostname())
with socket.create_server((host, 7401)) as server:
    print("begun", host, flush=True)
    server.accept()
pathlib.Path("/opt/ml/model/m").write_text("made")
"""
ATTEMPTS = """
import pathlib, signal, socket, sys, time
place = pathlib.Path("/opt/ml/checkpoints", socket.gethostname())
attempt = int(place.read_text()) + 1 if place.exists() else 1
place.write_text(str(attempt))
print("attempt", attempt, flush=True)
if attempt == 1:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    time.sleep(200)
pathlib.Path("/opt/ml/model/m").write_text(str(attempt))
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    problem = ray_node_test_problem()
    if problem:
        pytest.skip(problem)
    try:
        python = ray_python()
    except EnvironmentFailed as refused:
        pytest.skip(f"Ray cannot be installed here: {refused}")
    with ray_nodes(python) as found:
        yield found


@pytest.fixture(scope="module")
def installation(nodes: RayNodes) -> Iterator[Installation]:
    """A server whose door the nodes can reach."""
    home = Path(tempfile.mkdtemp(prefix="clary-", dir="/tmp"))
    environment = {**plain_environment(), **nodes.environment}
    address = nodes.address(1)
    settings = replace(Settings.load(environment), home=home, host=address, port=free_port(address))
    found = Installation(settings)
    supervisor = start(found, "--owner", str(os.getpid()), environment=environment)
    try:
        wait_until_ready(found, supervisor)
        yield found
    finally:
        stop(found)
        supervisor.wait(20)
        agent = agent_of(found)
        shutil.rmtree(home)
        wait_until(lambda: not agent or not Path(f"/proc/{agent}").exists())


@pytest.fixture(scope="module")
def training(installation: Installation) -> Iterator[Training]:
    opened: list[Any] = []
    client = boto3_clients(exported_by(installation), opened)
    s3 = client("s3")
    yield Training(client("sagemaker"), s3, client("logs"), bucket_of(s3))
    for one in opened:
        one.close()


def agent_of(installation: Installation) -> int:
    try:
        return json.loads((installation.settings.run / "ray" / "pulse.json").read_bytes())["pid"]
    except FileNotFoundError:
        return 0


def model_of(training: Training, job: dict[str, Any]) -> dict[str, str]:
    body = training.get(job["ModelArtifacts"]["S3ModelArtifacts"])
    with tarfile.open(fileobj=io.BytesIO(body)) as packed:
        files = [member for member in packed.getmembers() if member.isfile()]
        return {one.name: packed.extractfile(one).read().decode() for one in files}  # type: ignore[union-attr]


def begun(training: Training, name: str) -> str:
    """The address of the node on which a program waits."""
    lines = wait_until(lambda: training.lines(name))
    assert lines[0].startswith("begun "), lines
    return lines[0].removeprefix("begun ")


def test_a_job_of_two_hosts_runs_on_two_nodes_which_meet_by_their_names(training, nodes):
    job = training.run(MEET, ResourceConfig=resources(2))
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    first, second = nodes.address(2), nodes.address(3)
    lines = training.lines(job["TrainingJobName"])
    assert lines in (
        [f"algo-1 {first}", f"met {second}", f"algo-2 {second}"],
        [f"algo-1 {second}", f"met {first}", f"algo-2 {first}"],
    )
    assert model_of(training, job) == {"algo-1": "algo-1", "algo-2": "algo-2"}


def test_a_job_goes_on_and_runs_once_when_control_and_agent_are_killed(training, installation):
    name = training.start(WAITS)
    node = begun(training, name)
    agent = agent_of(installation)
    control = installation.server()["children"]["control"]["pid"]
    for process in (agent, control):
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: agent_of(installation) not in (0, agent))
    socket.create_connection((node, 7401), 10).close()
    job = wait_until(lambda: finished(training, name))
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert training.lines(name) == [f"begun {node}"]
    assert model_of(training, job) == {"m": "made"}


def finished(training: Training, name: str) -> dict[str, Any] | None:
    """The description of a job that has ended; control may be starting again at this moment."""
    try:
        job = training.describe(name)
    except training.sagemaker.exceptions.ClientError:
        return None
    return job if job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped") else None


def test_stopping_a_job_reaches_its_program_on_the_node(training, nodes, installation):
    name = training.start(WAITS)
    node = begun(training, name)
    training.sagemaker.stop_training_job(TrainingJobName=name)
    job = training.ended(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((node, 7401), 10)
    wait_until(lambda: not list((installation.settings.run / "ray").glob("group-*")))


def restarted(training: Training, name: str) -> dict[str, Any] | None:
    job = training.describe(name)
    return job if "Restarting" in statuses(job) else None


def test_a_job_of_a_node_that_dies_starts_again_on_what_is_left_from_its_checkpoints(
    training, nodes
):
    uri = training.put({".keep": ""})
    name = training.start(
        ATTEMPTS,
        ResourceConfig=resources(2),
        CheckpointConfig={"S3Uri": uri},
        RetryStrategy={"MaximumRetryAttempts": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 300},
    )
    wait_until(lambda: training.lines(name) == ["attempt 1", "attempt 1"])
    prefix = uri.partition(f"{training.bucket}/")[2]
    wait_until(
        lambda: training.s3.list_objects_v2(Bucket=training.bucket, Prefix=prefix)["KeyCount"] == 3
    )
    nodes.kill(3)
    # As long as a node that is only cut off may take to notice, and to end what it runs.
    restarting = wait_until(lambda: restarted(training, name), 120)
    assert "the host was lost" in str(restarting["SecondaryStatusTransitions"])
    job = training.ended(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert sorted(training.lines(name)) == ["attempt 1", "attempt 1", "attempt 2", "attempt 2"]
    assert model_of(training, job) == {"m": "2"}


def test_without_ray_a_launch_says_how_to_get_it(tmp_path):
    settings = Settings(home=tmp_path, ray_address="ray://h:10001", ray_python="/no/such/python")
    executor = RayExecutor(settings)
    directory = tmp_path / "work" / "1" / "g1" / "algo-1"
    spec = {"host": "algo-1", "hosts": ["algo-1"], "directory": str(directory), "limits": {}}
    with pytest.raises(LaunchError, match="CLARY_RAY_PYTHON name a Python"):
        executor.launch([spec])
    assert executor.observe([directory]) == [Absent()]
    executor.close()


def test_a_job_of_two_isolated_hosts_is_refused(tmp_path):
    executor = RayExecutor(Settings(home=tmp_path, ray_address="x", ray_python=sys.executable))
    spec = {"host": "algo-1", "hosts": ["algo-1", "algo-2"], "network_isolation": True}
    with pytest.raises(LaunchError, match="could not reach each other"):
        executor.launch([spec])
    executor.close()


def test_the_executor_needs_the_address_of_a_cluster(tmp_path):
    with pytest.raises(ValueError, match="CLARY_RAY_ADDRESS"):
        RayExecutor(Settings(home=tmp_path, executor="ray"))


def test_an_executor_that_does_not_exist_is_refused_with_the_names_of_those_that_do():
    with pytest.raises(ValueError, match="'slurm' is neither sandbox nor ray"):
        Settings.load({"CLARY_EXECUTOR": "slurm"})
