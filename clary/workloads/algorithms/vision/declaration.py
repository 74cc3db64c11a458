"""What the declarations of the algorithms for images have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from clary.workloads.algorithms.algorithm import Metric
from clary.workloads.algorithms.channels import ChannelDeclaration
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.schema import (
    boolean,
    integer,
    number,
)
from clary.workloads.algorithms.hyperparameters import Hyperparameter, Interval

RECORDIO, IMAGE = "application/x-recordio", "application/x-image"
JPEG, PNG = "image/jpeg", "image/png"
EPOCH_LIST = r"\s*(\d+\s*(,\s*\d+\s*)*)?"
KV_STORE = (
    "the hosts average their gradients in every step, as dist_sync does; there are no servers "
    "for parameters."
)


def early_stopping() -> tuple[Hyperparameter, ...]:
    return (
        boolean("early_stopping"),
        integer("early_stopping_min_epochs", 1),
        integer("early_stopping_patience", 1),
        number("early_stopping_tolerance", Interval(0, 1)),
    )


def momentum_and_decay() -> tuple[Hyperparameter, ...]:
    return (
        number("momentum", Interval(0, 1), tunable=Interval(0, 0.999)),
        number("weight_decay", Interval(0, 1), tunable=Interval(0, 0.999)),
        number("lr_scheduler_factor", Interval(0, 1)),
        integer("mini_batch_size", 1, tunable=Interval(8, 512)),
        integer("epochs", 1),
    )


def channel(name: str, *content_types: str, required: bool = False) -> ChannelDeclaration:
    return ChannelDeclaration(name, required=required, content_types=content_types)


def model_channel() -> ChannelDeclaration:
    return ChannelDeclaration(
        "model", content_types=("application/x-sagemaker-model",), modes=("File", "FastFile")
    )


def quality_metric(channel: str, name: str, pattern: str, *, maximize: bool) -> Metric:
    """A number of an epoch; `pattern` is what stands after `host=..., ` in the line."""
    return Metric(f"{channel}:{name}", rf"#quality_metric: host=\S+, {pattern}", maximize)


def needs(name: str, other: str, wanted: object) -> Callable[[Mapping[str, Any]], None]:
    """A rule: a hyperparameter that must be there when another one has a value."""

    def rule(values: Mapping[str, Any]) -> None:
        if values.get(other) == wanted and not values.get(name):
            raise ClientError(f"The hyperparameter {name} is required when {other} is {wanted}.")

    return rule
