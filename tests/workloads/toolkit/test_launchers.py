"""Which launcher a job's hyperparameters ask for, and the command lines of torchrun and mpirun."""

from __future__ import annotations

import importlib.util
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from clary.workloads.toolkit import environment, launchers, mpi, torchrun
from clary.workloads.toolkit.entry_point import EntryPoint
from clary.workloads.toolkit.environment import TrainingEnvironment
from clary.workloads.toolkit.failures import UserError

HOSTS = ["algo-1", "algo-2"]


@pytest.fixture
def configured(tmp_path: Path):
    def configured(hosts: list[str] = HOSTS, **parameters: Any) -> TrainingEnvironment:
        instance = parameters.pop("instance", "ml.m5.large")
        config = tmp_path / "input" / "config"
        config.mkdir(parents=True, exist_ok=True)
        group = {"instance_group_name": "homogeneousCluster", "hosts": hosts}
        resources = {
            "current_host": hosts[-1],
            "hosts": hosts,
            "current_instance_type": instance,
            "current_group_name": "homogeneousCluster",
            "instance_groups": [{**group, "instance_type": instance}],
            "network_interface_name": "eth0",
        }
        texts = {f"sagemaker_{name}": json.dumps(value) for name, value in parameters.items()}
        (config / "resourceconfig.json").write_text(json.dumps(resources))
        (config / "hyperparameters.json").write_text(json.dumps(texts))
        return environment.read({"SAGEMAKER_BASE_DIR": str(tmp_path), "PATH": ""})

    return configured


@pytest.fixture
def entry(tmp_path: Path) -> EntryPoint:
    return EntryPoint("script", "train.py", tmp_path, ["--epochs", "3"], {}, [])


@pytest.fixture
def machines_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "10.0.0.1")


@pytest.fixture
def with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


@pytest.mark.usefixtures("machines_of_their_own", "with_torch")
def test_torchrun_is_called_as_the_public_toolkit_calls_it(configured, entry) -> None:
    env = configured(torch_distributed_enabled=True)
    assert launchers.choose(env) is torchrun.run
    assert torchrun.command(env, entry) == [
        "torchrun",
        "--nnodes",
        "2",
        "--nproc_per_node",
        "1",
        "--master_addr",
        "algo-1",
        "--master_port",
        "7777",
        "--node_rank",
        "1",
        "train.py",
        "--epochs",
        "3",
    ]


@pytest.mark.usefixtures("with_torch")
def test_one_host_has_no_master(configured, entry) -> None:
    env = configured(["algo-1"], pytorch_ddp_enabled=True, mpi_num_of_processes_per_host=4)
    assert launchers.choose(env) is torchrun.run
    assert torchrun.command(env, entry)[:6] == [
        *("torchrun", "--nnodes", "1", "--nproc_per_node", "4"),
        "train.py",
    ]


@pytest.mark.usefixtures("with_torch")
def test_jobs_that_share_a_machine_meet_at_ports_of_their_own(
    configured, entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = configured(torch_distributed_enabled=True)
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "127.3.4.1")
    ports = set()
    for name in ("one", "another"):
        monkeypatch.setenv("TRAINING_JOB_NAME", name)
        words = torchrun.command(env, entry)
        ports.add(int(words[words.index("--master_port") + 1]))
    assert len(ports) == 2 and all(20_000 <= port < 24_000 for port in ports)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("module", "Python packages are not supported for torch_distributed"),
        ("command", "Unsupported entry point type for torch_distributed"),
        ("script", "its image has no PyTorch"),
    ],
)
def test_what_torchrun_cannot_run_is_refused(
    kind, told, configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    entry = EntryPoint(kind, "train.py", tmp_path, [], {}, [])
    with pytest.raises(UserError, match=told):
        torchrun.command(configured(torch_distributed_enabled=True), entry)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"distributed_dataparallel_enabled": True}, "data parallel library is not public"),
        ({"parameter_server_enabled": True}, "this kind of distribution is not built"),
        ({"torch_distributed_enabled": True, "instance": "ml.trn1.2xlarge"}, "Neuron cores"),
    ],
)
def test_a_distribution_that_is_not_built_is_refused_by_name(parameters, told, configured) -> None:
    with pytest.raises(launchers.DistributionError, match=told):
        launchers.choose(configured(**parameters))


def test_groups_outside_the_distribution_run_plain_processes(configured) -> None:
    env = configured(mpi_enabled=True, distribution_instance_groups=["gpus"])
    assert launchers.choose(env) is launchers.run_process


def test_mpirun_gets_hosts_with_slots_and_the_users_own_options(configured, entry) -> None:
    env = configured(
        mpi_enabled=True,
        mpi_num_of_processes_per_host=2,
        mpi_custom_mpi_options="-x COLOUR=red --NCCL_DEBUG=WARN -verbose",
    )
    assert launchers.choose(env) is mpi.run
    words = " ".join(mpi.command(env, entry, {}))
    assert words.startswith("mpirun --host algo-1:2,algo-2:2 -np 4 --allow-run-as-root")
    assert "-mca btl_tcp_if_include eth0" in words
    assert "-x NCCL_DEBUG=WARN -x PATH -x COLOUR=red -verbose " in words
    assert words.endswith("train.py --epochs 3")


@pytest.mark.parametrize("asked", [0, -1, "many", 2000])
def test_a_number_of_processes_that_is_none_is_refused(asked, configured, entry) -> None:
    env = configured(mpi_enabled=True, mpi_num_of_processes_per_host=asked)
    with pytest.raises(UserError, match="must be a number from 1 to 1024"):
        mpi.command(env, entry, {})


def test_mpi_without_open_mpi_says_what_to_install(
    configured, entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mpi.sys, "executable", str(tmp_path / "bin" / "python"))
    with pytest.raises(mpi.MpiError, match="name openmpi and mpi4py"):
        mpi.run(configured(mpi_enabled=True), entry)
    program = tmp_path / "bin" / "mpirun"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho HYDRA\n")
    program.chmod(0o755)
    with pytest.raises(mpi.MpiError, match="is not Open MPI's"):
        mpi.run(configured(mpi_enabled=True), entry)
