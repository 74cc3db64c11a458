"""PyTorch's launcher on every host: `distribution={"torch_distributed": {"enabled": True}}`."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace

from clary.workloads.toolkit import entry_point, environment, ports
from clary.workloads.toolkit.entry_point import EntryPoint
from clary.workloads.toolkit.environment import TrainingEnvironment
from clary.workloads.toolkit.failures import UserError

MASTER_PORT = 7777
_OWN_PORTS = 20_000


class TorchrunError(UserError):
    """The script cannot be run under torchrun."""


def run(env: TrainingEnvironment, entry: EntryPoint) -> None:
    """Run the script in as many processes as the host has GPUs, or in one."""
    words = command(env, entry)
    variables = {**entry.environment, **_network(env)}
    # The processes below torchrun find the installed requirements there.
    paths = [str(path) for path in entry.packages]
    if paths:
        paths += [variables["PYTHONPATH"]] if variables.get("PYTHONPATH") else []
        variables["PYTHONPATH"] = os.pathsep.join(paths)
    launch = replace(
        entry,
        kind="module",
        name="torch.distributed.run",
        arguments=words[1:],
        environment=variables,
        shown=tuple(words),
    )
    entry_point.run(launch)


def command(env: TrainingEnvironment, entry: EntryPoint) -> list[str]:
    """The command line, as the public toolkit builds it."""
    if entry.kind == "module":
        raise TorchrunError(
            "Python packages are not supported for torch_distributed. "
            "Please use a python script as the entry-point"
        )
    if entry.kind != "script":
        raise TorchrunError("Unsupported entry point type for torch_distributed")
    if importlib.util.find_spec("torch") is None:
        raise TorchrunError(
            "The job asks for torchrun and its image has no PyTorch: use a pytorch-training image."
        )
    hosts = environment.distribution_hosts(env)
    words = ["torchrun", "--nnodes", str(len(hosts))]
    words += ["--nproc_per_node", str(environment.processes_per_host(env))]
    if len(hosts) > 1:
        master = environment.master(env)
        words += ["--master_addr", master]
        words += ["--master_port", str(ports.of_job(MASTER_PORT, _OWN_PORTS, master))]
        words += ["--node_rank", str(hosts.index(env.current_host))]
    return [*words, entry.name, *entry.arguments]


def gathering(env: TrainingEnvironment) -> dict[str, str]:
    """What PyTorch's images tell scripts that form a process group by themselves."""
    master = environment.master(env)
    return {
        "MASTER_ADDR": master,
        "MASTER_PORT": str(ports.of_job(MASTER_PORT, _OWN_PORTS, master)),
        "NCCL_SOCKET_IFNAME": _interface(env),
        "NCCL_IB_DISABLE": "1",
    }


def _network(env: TrainingEnvironment) -> dict[str, str]:
    """The interface for NCCL and gloo; what the job itself says of gloo's wins."""
    found = {
        "NCCL_SOCKET_IFNAME": _interface(env),
        "NCCL_PROTO": "simple",
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", _interface(env)),
    }
    if len(environment.distribution_hosts(env)) == 1:
        # Else an older torchrun takes port 29500, which another job of this machine may have.
        found["PET_STANDALONE"] = "1"
    return found


def _interface(env: TrainingEnvironment) -> str:
    return str(env.resource_config.get("network_interface_name", "eth0"))
