"""How a job's script is started on this host, chosen by what the SDK's `distribution` asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from clary.workloads.toolkit import entry_point, environment, mpi, torchrun
from clary.workloads.toolkit.entry_point import EntryPoint
from clary.workloads.toolkit.environment import DISTRIBUTIONS, TrainingEnvironment
from clary.workloads.toolkit.failures import UserError

if TYPE_CHECKING:
    Launcher = Callable[[TrainingEnvironment, EntryPoint], None]

NEURON_INSTANCES = ("ml.trn", "ml.inf")
TORCH_DISTRIBUTED = '{"torch_distributed": {"enabled": True}}'


class DistributionError(UserError):
    """The job asks for a way of distribution that is not built, or not on its instances."""


def run_process(env: TrainingEnvironment, entry: EntryPoint) -> None:
    """Run the script once on every host."""
    entry_point.run(entry)


# A further launcher is one more line here: the hyperparameter that asks for it, and its function.
LAUNCHERS: dict[str, Launcher] = {
    "process": run_process,
    "sagemaker_torch_distributed_enabled": torchrun.run,
    # Plain DistributedDataParallel: the same processes with the same variables.
    "sagemaker_pytorch_ddp_enabled": torchrun.run,
    "sagemaker_mpi_enabled": mpi.run,
}
# What to ask for instead of what is Amazon's own, or of another time.
INSTEAD = {
    "sagemaker_distributed_dataparallel_enabled": (
        "SageMaker's own data parallel library is not public. PyTorch's does the same: ask for "
        f"distribution={TORCH_DISTRIBUTED}."
    ),
    "sagemaker_pytorch_xla_multi_worker_enabled": (
        f"PyTorch/XLA is not in the images: ask for distribution={TORCH_DISTRIBUTED}."
    ),
}


def choose(env: TrainingEnvironment) -> Launcher:
    """Return the launcher that the hyperparameters ask for; `DistributionError` if there is none."""
    group = env.resource_config.get("current_group_name", "homogeneousCluster")
    for name in DISTRIBUTIONS:
        if not env.framework_parameters.get(name):
            continue
        if group not in environment.distribution_groups(env):
            continue
        if name not in LAUNCHERS:
            instead = INSTEAD.get(name, "Leave out the estimator's `distribution` argument.")
            raise DistributionError(
                f"The job asks for {name}, and this kind of distribution is not built: {instead}"
            )
        instance = str(env.resource_config.get("current_instance_type", ""))
        if instance.startswith(NEURON_INSTANCES):
            raise DistributionError(
                f"The job asks for {name} on {instance}, whose Neuron cores are not here: choose "
                "an instance type with GPUs or without accelerators."
            )
        return LAUNCHERS[name]
    return LAUNCHERS["process"]
