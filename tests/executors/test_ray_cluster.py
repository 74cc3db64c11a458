"""Jobs on two real Ray nodes in two network namespaces, and what is said where there is no cluster."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import tarfile
import venv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clary.cli.installation import Installation
from clary.cli.processes import free_port, start, stop, wait_until_ready
from clary.executors.contract import LaunchError
from clary.executors.ray_cluster import RayExecutor
from clary.images import user_images
from clary.images.environment import as_document
from clary.images.uv import EnvironmentFailed
from clary.reconcile.observations import Absent
from clary.settings import Settings
from tests.executors.ray_nodes import (
    RayNodes,
    environment_of_jobs,
    ray_node_test_problem,
    ray_nodes,
    ray_python,
)
from tests.journeys.conftest import (
    boto3_clients,
    bucket_of,
    ended,
    exported_by,
    plain_environment,
    python_job,
)
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
# The first attempt ends, with a stale checkpoint and a model, as soon as its node is cut off.
ATTEMPTS = """
import os, pathlib, socket, time
place = pathlib.Path("/opt/ml/checkpoints/attempt")
attempt = int(place.read_text()) + 1 if place.exists() else 1
place.write_text(str(attempt))
print("attempt", attempt, socket.gethostbyname(socket.gethostname()), flush=True)
host, port = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://").split(":")
while attempt == 1:
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        place.write_text("stale")
        break
    time.sleep(0.2)
pathlib.Path("/opt/ml/model/m").write_text(str(attempt))
"""
SECONDS_MAX = 240.0  # two nodes, control and the agent share what may be a slow machine
IMAGE = "on-nodes:1"
OWN_IMAGE = "own:1"  # an environment of the user's own, which no node has


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
    home = nodes.control / "home"
    environment = {**plain_environment(), **nodes.environment}
    address = nodes.address(1)
    known = Settings.load(environment)
    settings = replace(
        known, home=home, cache=hidden(known, nodes), host=address, port=free_port(address)
    )
    register(IMAGE, settings)
    venv.create(nodes.control / "own")
    user_images.add(OWN_IMAGE, settings, existing=nodes.control / "own")
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


def register(uri: str, settings: Settings) -> None:
    """As `clary images add` does, but without the packages that are in every such image."""
    user_images.add(uri, settings)
    (path,) = (settings.home / "images").iterdir()
    document = {**json.loads(path.read_bytes()), "environment": as_document(environment_of_jobs())}
    path.write_text(json.dumps(document))


def hidden(known: Settings, nodes: RayNodes) -> Path:
    """The cache of this machine, where no node can see it."""
    cache = nodes.control / "cache"
    cache.mkdir()
    for name in ("environments", "code", "packages"):
        (known.cache / name).mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to(known.cache / name)
    return cache


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


def on_nodes(image: str = IMAGE, **changes: Any) -> dict[str, Any]:
    specification = python_job("any", "")["AlgorithmSpecification"]
    return {"AlgorithmSpecification": {**specification, "TrainingImage": image}, **changes}


def printed_by(training: Training, name: str) -> list[str]:
    """What the program itself printed."""
    return [line for line in training.lines(name) if not line.startswith("[clary] ")]


def begun(training: Training, name: str) -> str:
    """The address of the node on which a program waits."""
    lines = wait_until(lambda: printed_by(training, name), SECONDS_MAX)
    assert lines[0].startswith("begun "), lines
    return lines[0].removeprefix("begun ")


def test_a_job_of_two_hosts_runs_on_two_fresh_nodes_which_meet_by_their_names(training, nodes):
    name = training.start(MEET, **on_nodes(ResourceConfig=resources(2)))
    job = ended(training.sagemaker, name, SECONDS_MAX)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    first, second = nodes.address(2), nodes.address(3)
    assert printed_by(training, name) in (
        [f"algo-1 {first}", f"met {second}", f"algo-2 {second}"],
        [f"algo-1 {second}", f"met {first}", f"algo-2 {first}"],
    )
    assert model_of(training, job) == {"algo-1": "algo-1", "algo-2": "algo-2"}
    # Nobody had built the environment there: the nodes did, one for both, and said so.
    told = [line for line in training.lines(name) if line.startswith("[clary] the Ray node ")]
    assert len([line for line in told if ": Installed " in line]) == 1, told
    starting = [one for one in job["SecondaryStatusTransitions"] if one["Status"] == "Starting"]
    assert "Preparing the environment on the Ray node 10.213." in str(starting)
    assert statuses(job)[-4:] == ["Downloading", "Training", "Uploading", "Completed"]


def test_a_node_that_cannot_have_the_environment_is_named_with_the_log_and_the_remedy(
    training, nodes
):
    job = ended(training.sagemaker, training.start(MEET, **on_nodes(OWN_IMAGE)), SECONDS_MAX)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
    reason = job["FailureReason"]
    assert reason.startswith("ClientError: The environment could not be built on the Ray node")
    assert any(nodes.address(node) in reason for node in (2, 3))
    stream = f"/aws/sagemaker/TrainingJobs, stream {job['TrainingJobName']}/algo-1-"
    assert stream in reason
    words = "own is an environment of your own, which is not there. Make it at the same path"
    assert words in reason
    assert any(words in line for line in training.lines(job["TrainingJobName"]))


def test_a_job_goes_on_and_runs_once_when_control_and_agent_are_killed(training, installation):
    name = training.start(WAITS, **on_nodes())
    node = begun(training, name)
    agent = agent_of(installation)
    control = installation.server()["children"]["control"]["pid"]
    for process in (agent, control):
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: agent_of(installation) not in (0, agent), SECONDS_MAX)
    socket.create_connection((node, 7401), 10).close()
    job = wait_until(lambda: finished(training, name), SECONDS_MAX)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert printed_by(training, name) == [f"begun {node}"]
    assert model_of(training, job) == {"m": "made"}


def finished(training: Training, name: str) -> dict[str, Any] | None:
    """The description of a job that has ended; control may be starting again at this moment."""
    try:
        job = training.describe(name)
    except training.sagemaker.exceptions.ClientError:
        return None
    return job if job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped") else None


def test_stopping_a_job_reaches_its_program_on_the_node(training, nodes, installation):
    name = training.start(WAITS, **on_nodes())
    node = begun(training, name)
    training.sagemaker.stop_training_job(TrainingJobName=name)
    job = ended(training.sagemaker, name, SECONDS_MAX)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((node, 7401), 10)
    wait_until(lambda: not list((installation.settings.run / "ray").glob("group-*")))


def restarted(training: Training, name: str) -> dict[str, Any] | None:
    job = training.describe(name)
    return job if "Restarting" in statuses(job) else None


def test_what_a_node_that_was_cut_off_began_ends_there_before_it_begins_anew_elsewhere(
    training, nodes, installation
):
    """The cut lasts longer than the bound; then the node comes back, and must change nothing."""
    # It takes the one CPU of the head: what comes later is placed on the other node.
    first = training.start(WAITS, **on_nodes(ResourceConfig=resources(2)))
    wait_until(lambda: len(printed_by(training, first)) == 2, SECONDS_MAX)
    uri = training.put({".keep": ""})
    name = training.start(
        ATTEMPTS,
        **on_nodes(
            CheckpointConfig={"S3Uri": uri},
            RetryStrategy={"MaximumRetryAttempts": 1},
            StoppingCondition={"MaxRuntimeInSeconds": 300},
        ),
    )
    at_first = f"attempt 1 {nodes.address(3)}"
    wait_until(lambda: printed_by(training, name) == [at_first], SECONDS_MAX)
    wait_until(lambda: checkpoint_of(training, uri) == "1", SECONDS_MAX)

    nodes.connect(3, state="down")
    restarting = wait_until(lambda: restarted(training, name), SECONDS_MAX)
    assert nodes.processes(3, "clary.runner") == []
    assert "10.213." in str(restarting["SecondaryStatusTransitions"])
    assert "is gone from the Ray cluster" in str(restarting["SecondaryStatusTransitions"])
    job = ended(training.sagemaker, name, SECONDS_MAX)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    again = [at_first, f"attempt 2 {nodes.address(2)}"]
    made = (model_of(training, job), checkpoint_of(training, uri), printed_by(training, name))
    assert made == ({"m": "2"}, "2", again)
    lost = ended(training.sagemaker, first, SECONDS_MAX)
    assert lost["TrainingJobStatus"] == "Failed"
    assert lost["FailureReason"].startswith("InternalServerError: ")
    assert "the host was lost" in lost["FailureReason"]

    nodes.connect(3, state="up")
    # Ray tells its node that it was given up; what the kernel still holds has had its time as well.
    wait_until(lambda: not nodes.processes(3, "raylet/raylet"), SECONDS_MAX)
    wait_until(lambda: not nodes.unsent(3, installation.settings.port))
    left = (model_of(training, job), checkpoint_of(training, uri), printed_by(training, name))
    assert left == made


def checkpoint_of(training: Training, uri: str) -> str:
    try:
        return training.get(f"{uri}/attempt").decode()
    except training.s3.exceptions.NoSuchKey:
        return ""


def test_without_ray_a_launch_says_how_to_get_it(tmp_path):
    settings = Settings(home=tmp_path, ray_address="ray://h:10001", ray_python="/no/such/python")
    executor = RayExecutor(settings)
    directory = tmp_path / "work" / "1" / "g1" / "algo-1"
    spec = {"host": "algo-1", "hosts": ["algo-1"], "directory": str(directory), "limits": {}}
    with pytest.raises(LaunchError, match="CLARY_RAY_PYTHON name a Python"):
        executor.launch([spec])
    assert executor.observe([directory]) == [Absent()]
    executor.close()


def test_the_executor_needs_the_address_of_a_cluster(tmp_path):
    with pytest.raises(ValueError, match="CLARY_RAY_ADDRESS"):
        RayExecutor(Settings(home=tmp_path, executor="ray"))


def test_an_executor_that_does_not_exist_is_refused_with_the_names_of_those_that_do():
    with pytest.raises(ValueError, match="'slurm' is neither sandbox nor ray"):
        Settings.load({"CLARY_EXECUTOR": "slurm"})
