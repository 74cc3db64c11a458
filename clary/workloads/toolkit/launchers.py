"""How a job's script is started on this host, chosen by what the SDK's `distribution` asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from clary.workloads.toolkit import entry_point
from clary.workloads.toolkit.entry_point import EntryPoint
from clary.workloads.toolkit.environment import (
    DISTRIBUTIONS,
    TrainingEnvironment,
    distribution_groups,
)
from clary.workloads.toolkit.failures import UserError

if TYPE_CHECKING:
    Launcher = Callable[[TrainingEnvironment, EntryPoint], None]


class DistributionError(UserError):
    """The job asks for a way of distribution that is not built."""


def run_process(environment: TrainingEnvironment, entry: EntryPoint) -> None:
    """Run the script once on every host."""
    entry_point.run(entry)


# A further launcher is one more line here: the hyperparameter that asks for it, and its function.
LAUNCHERS: dict[str, Launcher] = {"process": run_process}


def choose(environment: TrainingEnvironment) -> Launcher:
    """Return the launcher that the hyperparameters ask for; `DistributionError` if there is none."""
    group = environment.resource_config.get("current_group_name", "homogeneousCluster")
    for name in DISTRIBUTIONS:
        if not environment.framework_parameters.get(name):
            continue
        if group not in distribution_groups(environment):
            continue
        if name not in LAUNCHERS:
            raise DistributionError(
                f"The job asks for {name}, and this kind of distribution is not built: scripts run "
                "as one process on each host. Leave out the estimator's `distribution` argument."
            )
        return LAUNCHERS[name]
    return LAUNCHERS["process"]
