"""What neural algorithms share: optimisers by SageMaker's names, and gradients of all hosts as one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from clary.workloads.algorithms.first_party.hosts import Group


def optimizer(
    name: str, parameters: Iterable[torch.nn.Parameter], rate: float, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """`sgd`, `adam`, `adagrad`, `adadelta` or `rmsprop`."""
    kinds: dict[str, Any] = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adagrad": torch.optim.Adagrad,
        "adadelta": torch.optim.Adadelta,
        "rmsprop": torch.optim.RMSprop,
    }
    return kinds[name](parameters, lr=rate, weight_decay=weight_decay)


def average(parameters: Iterable[torch.nn.Parameter], group: Group) -> None:
    """Every host's dense gradients become the mean of all hosts': one message for all of them."""
    if group.size == 1:
        return
    learned = [one for one in parameters if one.requires_grad]
    flat = [
        np.zeros(one.numel(), np.float32)
        if one.grad is None
        else one.grad.detach().cpu().numpy().ravel()
        for one in learned
    ]
    mean = torch.from_numpy(group.sum(np.concatenate(flat)).astype(np.float32) / group.size)
    for one, part in zip(learned, mean.split([one.numel() for one in learned])):  # noqa: B905 - Python 3.8
        one.grad = part.view_as(one).to(one.device)
