"""What the declarations of JumpStart's tabular algorithms have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clary.workloads.algorithms.algorithm import Metric
from clary.workloads.algorithms.channels import ChannelDeclaration
from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.hyperparameters import Hyperparameter, Hyperparameters, Interval
from clary.workloads.algorithms.job import log

CSV = ("text/csv",)
CHANNELS = (
    ChannelDeclaration("training", content_types=CSV, modes=("File", "FastFile")),
    ChannelDeclaration("train", content_types=CSV, modes=("File", "FastFile")),
    ChannelDeclaration("validation", content_types=CSV, modes=("File", "FastFile")),
    ChannelDeclaration("model", modes=("File", "FastFile")),
    ChannelDeclaration("code", modes=("File", "FastFile")),
)
ANY = Interval()
AT_LEAST_ZERO = Interval(0)
AT_LEAST_ONE = Interval(1)
POSITIVE = Interval(0, low_open=True)
ZERO_TO_ONE = Interval(0, 1)
SHARE = Interval(0, 1, low_open=True)
INSIDE_ONE = Interval(0, 1, low_open=True, high_open=True)
TUNING_OBJECTIVE = "_tuning_objective_metric"
# What tuning jobs and the SDKs add to every job.
ACCEPTED_EVERYWHERE = (TUNING_OBJECTIVE,)


@dataclass(frozen=True)
class Defaulted(Hyperparameters):
    """Hyperparameters with defaults; `without_effect` says why a name changes nothing here."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    without_effect: Mapping[str, str] = field(default_factory=dict)

    def validate(self, given: Mapping[str, str]) -> dict[str, Any]:
        """All values, defaults filled in; raise UserError for the first that is wrong."""
        own = {name: text for name, text in given.items() if name not in ACCEPTED_EVERYWHERE}
        return {**self.defaults, **super().validate(own)}

    def remark(self, values: Mapping[str, Any]) -> None:
        """Tell the log which values are not the default and have no effect."""
        for name, why in self.without_effect.items():
            if name in values and values[name] != self.defaults.get(name):
                log(f"Hyperparameter {name}={values[name]} has no effect here: {why}", "WARNING")


def integer(name: str, interval: Interval, **more: Any) -> Hyperparameter:
    return Hyperparameter(name, "integer", interval=interval, **more)


def number(name: str, interval: Interval, **more: Any) -> Hyperparameter:
    return Hyperparameter(name, "continuous", interval=interval, **more)


def choice(name: str, *choices: str, **more: Any) -> Hyperparameter:
    return Hyperparameter(name, "categorical", choices=choices, **more)


def switch(name: str) -> Hyperparameter:
    """`True` or `False`, which the value then says in lower case."""
    return choice(name, "true", "false")


def metric(name: str, regex: str, *, maximize: bool) -> Metric:
    return Metric(name, regex, maximize)


def no_training_channel() -> UserError:
    return UserError("Missing required channel: training")
