"""The training environment: three configuration files in, the SM_* variables out."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clary.workloads.toolkit.failures import UserError

log = logging.getLogger("clary.toolkit")

PREFIX = "sagemaker_"
TUNING_METRIC = "_tuning_objective_metric"
# Those that only the toolkit reads; what else starts with the prefix is for a framework.
OWN_PARAMETERS = (
    "sagemaker_program",
    "sagemaker_submit_directory",
    "sagemaker_enable_cloudwatch_metrics",
    "sagemaker_region",
    "sagemaker_container_log_level",
    "sagemaker_job_name",
    "sagemaker_s3_output",
)
# `default_user_module_name` and the tuning metric have no prefix but are no user's either.
UNPREFIXED_PARAMETERS = ("default_user_module_name", TUNING_METRIC)
DISTRIBUTIONS = (
    "sagemaker_mpi_enabled",
    "sagemaker_parameter_server_enabled",
    "sagemaker_distributed_dataparallel_enabled",
    "sagemaker_pytorch_ddp_enabled",
    "sagemaker_pytorch_xla_multi_worker_enabled",
    "sagemaker_multi_worker_mirrored_strategy_enabled",
    "sagemaker_torch_distributed_enabled",
)


PROCESSES_PER_HOST = "sagemaker_mpi_num_of_processes_per_host"
PROCESSES_PER_HOST_MAX = 1024


@dataclass(frozen=True)
class Directories:
    """The tree under /opt/ml, or under SAGEMAKER_BASE_DIR."""

    base: Path

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Directories:
        """Return the tree that the environment names."""
        return cls(Path(environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml"))

    @property
    def code(self) -> Path:
        return self.base / "code"

    @property
    def model(self) -> Path:
        return self.base / "model"

    @property
    def input(self) -> Path:
        return self.base / "input"

    @property
    def config(self) -> Path:
        return self.base / "input" / "config"

    @property
    def output(self) -> Path:
        return self.base / "output"


@dataclass(frozen=True)
class TrainingEnvironment:
    """All that a training script may want to know of its job."""

    directories: Directories
    hyperparameters: dict[str, Any]
    framework_parameters: dict[str, Any]
    resource_config: dict[str, Any]
    input_data_config: dict[str, Any]
    entry_point: str | None
    module_name: str
    module_dir: str
    log_level: int
    framework_module: str | None
    job_name: str | None
    region: str
    sdk_job_name: str
    cpus: int
    gpus: int
    neurons: int
    model_parallel: str | bool | None

    @property
    def hosts(self) -> list[str]:
        return self.resource_config["hosts"]

    @property
    def current_host(self) -> str:
        return self.resource_config["current_host"]

    @property
    def arguments(self) -> list[str]:
        """The hyperparameters as the script's command line."""
        return command_line(self.hyperparameters)


def read(environ: Mapping[str, str]) -> TrainingEnvironment:
    """Read the configuration files and the machine."""
    directories = Directories.from_environ(environ)
    resources = _read_json(directories.config / "resourceconfig.json")
    channels = _read_json(directories.config / "inputdataconfig.json", missing={})
    given = _decoded(_read_json(directories.config / "hyperparameters.json", missing={}))
    own = {key: value for key, value in given.items() if _is_own(key)}
    framework = {k: v for k, v in own.items() if k not in OWN_PARAMETERS + UNPREFIXED_PARAMETERS}
    instance = resources.get("current_instance_type", "local")
    program = environ.get("SAGEMAKER_PROGRAM") or own.get("sagemaker_program")
    parallel = environ.get("SM_HP_MP_PARAMETERS")
    return TrainingEnvironment(
        directories=directories,
        hyperparameters={key: value for key, value in given.items() if not _is_own(key)},
        framework_parameters=framework,
        resource_config=resources,
        input_data_config=channels,
        entry_point=program,
        module_name=_module_name(str(program)),
        module_dir=str(own.get("sagemaker_submit_directory", directories.code)),
        log_level=own.get("sagemaker_container_log_level", logging.INFO),
        framework_module=environ.get("SAGEMAKER_TRAINING_MODULE"),
        job_name=environ.get("TRAINING_JOB_NAME"),
        region=str(own.get("sagemaker_region") or environ.get("AWS_REGION") or ""),
        sdk_job_name=str(own.get("sagemaker_job_name", "")),
        cpus=os.cpu_count() or 1,
        gpus=count_gpus(),
        neurons=count_neurons(instance),
        model_parallel=parallel and parallel != "{}",
    )


def variables(environment: TrainingEnvironment) -> dict[str, str]:
    """Return the SM_* variables, worded as the public toolkit words them."""
    env, resources = environment, environment.resource_config
    tree = env.directories
    groups = resources.get("instance_groups", [])
    channels = {name: str(tree.input / "data" / name) for name in env.input_data_config}
    values: dict[str, Any] = {
        "hosts": env.hosts,
        "network_interface_name": resources.get("network_interface_name", "eth0"),
        "hps": env.hyperparameters,
        "user_entry_point": env.entry_point,
        "framework_params": env.framework_parameters,
        "resource_config": resources,
        "input_data_config": env.input_data_config,
        "output_data_dir": str(tree.output / "data"),
        "channels": sorted(channels),
        "current_host": env.current_host,
        "current_instance_type": resources.get("current_instance_type", "local"),
        "current_instance_group": _current_group(resources),
        "current_instance_group_hosts": _group_hosts(resources),
        "instance_groups": [group["instance_group_name"] for group in groups],
        "instance_groups_dict": {group["instance_group_name"]: group for group in groups},
        "distribution_instance_groups": distribution_groups(env),
        "is_hetero": len(groups) > 1,
        "module_name": env.module_name,
        "log_level": env.log_level,
        "framework_module": env.framework_module,
        "input_dir": str(tree.input),
        "input_config_dir": str(tree.config),
        "output_dir": str(tree.output),
        "num_cpus": env.cpus,
        "num_gpus": env.gpus,
        "num_neurons": env.neurons,
        "model_dir": str(tree.model),
        "module_dir": env.module_dir,
        "training_env": _training_env(env, channels),
        "user_args": env.arguments,
        "output_intermediate_dir": str(tree.output / "intermediate"),
    }
    if resources.get("topology"):
        values["topology"] = resources["topology"]
    values.update({f"channel_{name}": path for name, path in channels.items()})
    values.update({f"hp_{name}": value for name, value in env.hyperparameters.items()})
    return {f"SM_{name.upper()}": _text(value) for name, value in values.items()}


def command_line(hyperparameters: Mapping[str, Any]) -> list[str]:
    """Return `--key value` for every hyperparameter, sorted; one letter takes one dash."""
    words = []
    for key in sorted(hyperparameters):
        value = hyperparameters[key]
        words.append(f"--{key}" if len(key) > 1 else f"-{key}" if key else "")
        if isinstance(value, dict):
            value = ",".join(f"{name}={item}" for name, item in sorted(value.items()))
        words.append("" if value is None else str(value))
    return words


def distribution_groups(environment: TrainingEnvironment) -> list[str]:
    """Return the instance groups that the job's distribution runs on."""
    named = environment.framework_parameters.get("sagemaker_distribution_instance_groups")
    if named is not None:
        return named
    if any(environment.framework_parameters.get(name) for name in DISTRIBUTIONS):
        return [_current_group(environment.resource_config)]
    return []


def distribution_hosts(environment: TrainingEnvironment) -> list[str]:
    """Return the hosts of those groups; all hosts where there are no groups."""
    groups = environment.resource_config.get("instance_groups", [])
    if not groups:
        return list(environment.hosts)
    chosen = distribution_groups(environment)
    return [host for g in groups if g["instance_group_name"] in chosen for host in g["hosts"]]


def master(environment: TrainingEnvironment) -> str:
    """Return the host that the others of a distribution gather at."""
    return (distribution_hosts(environment) or environment.hosts)[0]


def processes_per_host(environment: TrainingEnvironment) -> int:
    """Return how many processes a launcher starts on each host: as asked, or one per device."""
    asked = environment.framework_parameters.get(PROCESSES_PER_HOST)
    if asked is None or asked == "":
        return environment.gpus or environment.neurons or 1
    try:
        count = int(asked)
    except (TypeError, ValueError):
        count = 0
    if not 0 < count <= PROCESSES_PER_HOST_MAX:
        raise UserError(
            f"{PROCESSES_PER_HOST} is {asked!r}; it must be a number from 1 to "
            f"{PROCESSES_PER_HOST_MAX}."
        )
    return count


def count_gpus() -> int:
    """Count NVIDIA devices; none where the driver's tool is missing or fails."""
    listing = _listing(["nvidia-smi", "--list-gpus"])
    return sum(1 for line in listing.splitlines() if line.startswith("GPU "))


def count_neurons(instance_type: str) -> int:
    """Count Neuron cores; none where the driver's tool is missing or fails."""
    if "trn2.48xlarge" in instance_type:
        return 64
    listing = _listing(["neuron-ls", "-j"])
    try:
        return sum(device.get("nc_count", 0) for device in json.loads(listing or "[]"))
    except ValueError:
        log.info("neuron-ls does not answer in JSON: no Neuron cores are counted.")
        return 0


def _is_own(key: str) -> bool:
    return key.startswith(PREFIX) or key in UNPREFIXED_PARAMETERS


def _read_json(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    if missing is not None and not path.exists():
        return missing
    return json.loads(path.read_text(encoding="utf-8"))


def _decoded(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Decode each value that is JSON; keep the others as they are."""
    decoded = {}
    for key, value in hyperparameters.items():
        try:
            decoded[key] = json.loads(value)
        except (ValueError, TypeError):
            decoded[key] = value
    return decoded


def _module_name(program: str) -> str:
    return program[:-3] if program.endswith(".py") else program


def _current_group(resources: Mapping[str, Any]) -> str:
    return resources.get("current_group_name", "homogeneousCluster")


def _group_hosts(resources: Mapping[str, Any]) -> list[str]:
    for group in resources.get("instance_groups", []):
        if group["instance_group_name"] == _current_group(resources):
            return group["hosts"]
    return []


def _training_env(env: TrainingEnvironment, channels: dict[str, str]) -> dict[str, Any]:
    resources, tree = env.resource_config, env.directories
    groups = resources.get("instance_groups", [])
    gathering = master(env)
    return {
        "additional_framework_parameters": env.framework_parameters,
        "channel_input_dirs": channels,
        "current_host": env.current_host,
        "current_instance_group": _current_group(resources),
        "current_instance_group_hosts": _group_hosts(resources),
        "current_instance_type": resources.get("current_instance_type", "local"),
        "distribution_hosts": distribution_hosts(env),
        "distribution_instance_groups": distribution_groups(env),
        "framework_module": env.framework_module,
        "hosts": env.hosts,
        "hyperparameters": env.hyperparameters,
        "input_config_dir": str(tree.config),
        "input_data_config": env.input_data_config,
        "input_dir": str(tree.input),
        "instance_groups": [group["instance_group_name"] for group in groups],
        "instance_groups_dict": {group["instance_group_name"]: group for group in groups},
        "is_hetero": len(groups) > 1,
        "is_master": env.current_host == gathering,
        "is_modelparallel_enabled": env.model_parallel,
        "is_smddpmprun_installed": shutil.which("smddpmprun") is not None,
        "is_smddprun_installed": shutil.which("smddprun") is not None,
        "job_name": env.job_name,
        "log_level": env.log_level,
        "master_hostname": gathering,
        "model_dir": str(tree.model),
        "module_dir": env.module_dir,
        "module_name": env.module_name,
        "network_interface_name": resources.get("network_interface_name", "eth0"),
        "num_cpus": env.cpus,
        "num_gpus": env.gpus,
        "num_neurons": env.neurons,
        "output_data_dir": str(tree.output / "data"),
        "output_dir": str(tree.output),
        "output_intermediate_dir": str(tree.output / "intermediate"),
        "resource_config": resources,
        "topology": resources.get("topology", []),
        "user_entry_point": env.entry_point,
    }


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _listing(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        log.info("%s did not answer (%s): no such devices are counted.", command[0], problem)
        return ""
    return done.stdout if done.returncode == 0 else ""
