"""MPI over all hosts: `distribution={"mpi": {"enabled": True, "processes_per_host": 2}}`.

The first host runs Open MPI's mpirun; the others wait and run what it sends them (`remote_shell`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from clary.workloads.toolkit import entry_point, environment, remote_shell
from clary.workloads.toolkit.entry_point import EntryPoint
from clary.workloads.toolkit.environment import TrainingEnvironment
from clary.workloads.toolkit.failures import UserError

log = logging.getLogger("clary.toolkit")

CUSTOM_OPTIONS = "sagemaker_mpi_custom_mpi_options"
NUM_PROCESSES = "sagemaker_mpi_num_processes"
VERSION_SECONDS_MAX = 60


class MpiError(UserError):
    """The job asks for MPI and it cannot be had here."""


def run(env: TrainingEnvironment, entry: EntryPoint) -> None:
    """Run the script on all hosts from the first one, or be one of the others."""
    if entry.kind == "command":
        (entry.code / entry.name).chmod(0o755)
    variables = _variables(entry)
    hosts, master = environment.distribution_hosts(env), environment.master(env)
    _require_open_mpi(variables)
    if len(hosts) > 1 and not _has_outer_interface():
        raise MpiError(
            "Open MPI does not run over several hosts in a network of loopback addresses only, and "
            "the kernel gave the job's own network no other (modules dummy, bridge or veth): "
            "leave out the network isolation of the job, or use one instance."
        )
    port = remote_shell.port_of_job(master)
    if env.current_host != master:
        log.info("Waiting for the commands of %s.", master)
        remote_shell.serve(env.current_host, port, entry.code, variables)
        return
    variables.update(_launch_variables(port))
    words = command(env, entry, variables)
    launch = replace(entry, kind="program", environment=variables, packages=[], shown=tuple(words))
    with contextlib.ExitStack() as held:
        for host in hosts:
            if host != master:
                connection = remote_shell.hold(host, port, remote_shell.secret(variables))
                held.callback(remote_shell.let_go, connection)
        entry_point.run(launch)


def command(env: TrainingEnvironment, entry: EntryPoint, variables: Mapping[str, str]) -> list[str]:
    """mpirun's command line, in the public toolkit's order; every host brings its own SM_*."""
    hosts, each = environment.distribution_hosts(env), environment.processes_per_host(env)
    count = env.framework_parameters.get(NUM_PROCESSES) or each * len(hosts)
    listed = hosts if each == 1 else [f"{host}:{each}" for host in hosts]
    interface = str(env.resource_config.get("network_interface_name", "eth0"))
    debug, custom = custom_options(str(env.framework_parameters.get(CUSTOM_OPTIONS) or ""))
    settings = {
        "btl_tcp_if_include": interface,
        "oob_tcp_if_include": interface,
        "plm_rsh_no_tree_spawn": "1",
        "pml": "ob1",
        "btl": "^openib",
        "orte_abort_on_non_zero_status": "1",
        "btl_vader_single_copy_mechanism": "none",
    }
    words = ["mpirun", "--host", ",".join(listed), "-np", str(count), "--allow-run-as-root"]
    words += ["--tag-output"]
    for name, value in settings.items():
        words += ["-mca", name, value]
    words += ["--bind-to", "none", "--map-by", "slot"]
    words += ["-x", "NCCL_MIN_NRINGS=4", "-x", f"NCCL_SOCKET_IFNAME={interface}"]
    words += ["-x", f"NCCL_DEBUG={debug}", "-x", "PATH"]
    if "LD_LIBRARY_PATH" in variables:
        words += ["-x", "LD_LIBRARY_PATH"]
    return [*words, *custom, *_script(entry)]


def custom_options(text: str) -> tuple[str, list[str]]:
    """Take NCCL_DEBUG, the one option that is not mpirun's, out of the user's own options."""
    debug, others = "INFO", []
    words = iter(text.split())
    for word in words:
        name, equals, value = word.partition("=")
        if name != "--NCCL_DEBUG":
            others.append(word)
        else:
            debug = value if equals else next(words, debug)
    return debug, others


def _script(entry: EntryPoint) -> list[str]:
    """The script as each process runs it: under mpi4py, an error in one of them ends them all."""
    if entry.kind == "command":
        return entry.command
    words = entry.command
    found = importlib.util.find_spec("mpi4py") is not None or any(
        (path / "mpi4py").is_dir() for path in entry.packages
    )
    return [words[0], "-m", "mpi4py", *words[1:]] if found else words


def _variables(entry: EntryPoint) -> dict[str, str]:
    """The environment of all processes: what was installed comes first, mpirun itself among it."""
    found = dict(entry.environment)
    paths = [str(path) for path in entry.packages]
    if paths:
        found["PYTHONPATH"] = os.pathsep.join([*paths, *_set(found, "PYTHONPATH")])
    programs = [str(path / "bin") for path in entry.packages]
    programs.append(str(Path(sys.executable).parent))
    found["PATH"] = os.pathsep.join([*programs, *_set(found, "PATH")])
    return found


def _set(variables: Mapping[str, str], name: str) -> list[str]:
    return [variables[name]] if variables.get(name) else []


def _launch_variables(port: int) -> dict[str, str]:
    """How mpirun reaches the other hosts, as the fourth and the fifth Open MPI want to be told."""
    agent = f"{sys.executable} -m {remote_shell.__name__}"
    return {
        "OMPI_MCA_plm_rsh_agent": agent,
        "PRTE_MCA_plm_ssh_agent": agent,
        "PRTE_MCA_plm_ssh_no_tree_spawn": "1",
        remote_shell.PORT_VARIABLE: str(port),
    }


def _require_open_mpi(variables: Mapping[str, str]) -> None:
    program = shutil.which("mpirun", path=variables["PATH"])
    if program is None:
        raise MpiError(
            "The job asks for MPI and its image has no mpirun: name openmpi and mpi4py in the "
            "requirements.txt of the source directory, or use a pytorch-training image."
        )
    try:
        told = subprocess.run(
            [program, "--version"],
            env=dict(variables),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_SECONDS_MAX,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise MpiError(f"{program} does not run: {problem}") from problem
    if "Open MPI" not in told:
        raise MpiError(
            f"{program} is not Open MPI's, whose options SageMaker's MPI jobs are started with: "
            "name openmpi in requirements.txt."
        )


def _has_outer_interface() -> bool:
    return any(name != "lo" for _, name in socket.if_nameindex())
