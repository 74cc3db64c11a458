"""Learning: optimisers, how the learning rate falls, and when a training stops early."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


def optimizer(values: Mapping[str, Any], network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of the hyperparameters, over what is not frozen."""
    weights = [one for one in network.parameters() if one.requires_grad]
    rate, decay = values["learning_rate"], values["weight_decay"]
    momentum = values.get("momentum", 0.0)
    betas = (values.get("beta_1", 0.9), values.get("beta_2", 0.999))
    epsilon = values.get("eps", 1e-8)
    match values["optimizer"]:
        case "sgd":
            return torch.optim.SGD(weights, rate, momentum, weight_decay=decay)
        case "nag":
            nesterov = momentum > 0
            return torch.optim.SGD(weights, rate, momentum, weight_decay=decay, nesterov=nesterov)
        case "adam":
            return torch.optim.Adam(weights, rate, betas, epsilon, decay)
        case "rmsprop":
            smoothing = values.get("gamma", values.get("gamma1", 0.9))
            inner = values.get("gamma2", 0.0)
            return torch.optim.RMSprop(weights, rate, smoothing, epsilon, decay, inner)
        case "adadelta":
            return torch.optim.Adadelta(weights, rate, weight_decay=decay)
        case "adagrad":
            return torch.optim.Adagrad(weights, rate, weight_decay=decay)
        case other:
            raise ValueError(f"there is no optimizer {other}")


def step_rate(first: float, factor: float, epochs: Iterable[int], epoch: int) -> float:
    """The learning rate of an epoch: multiplied by the factor at each of the named epochs."""
    return first * factor ** sum(epoch >= one for one in epochs)


def decaying_rate(kind: str, first: float, done: float) -> float:
    """Of the schedulers `poly` and `cosine`, when a share of the training is done."""
    if kind == "cosine":
        return first * (1 + math.cos(math.pi * done)) / 2
    return first * (1 - done) ** 0.9


def set_rate(chosen: torch.optim.Optimizer, rate: float) -> None:
    for group in chosen.param_groups:
        group["lr"] = rate


def epochs_of(text: str) -> list[int]:
    """`10,20` as numbers; empty text names no epoch."""
    return [int(word) for word in text.split(",") if word.strip()]


@dataclass
class EarlyStopping:
    """Watches a number that should grow."""

    is_on: bool
    epochs_min: int
    patience: int
    tolerance: float
    best: float = -math.inf
    waited: int = 0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> EarlyStopping:
        return cls(
            values["early_stopping"],
            values["early_stopping_min_epochs"],
            values["early_stopping_patience"],
            values["early_stopping_tolerance"],
        )

    def is_over(self, value: float, epoch: int) -> bool:
        """Whether this epoch's value says that no further epoch will help."""
        gain = (value - self.best) / max(abs(self.best), 1e-12) if self.best > -math.inf else 1.0
        if value > self.best and gain > self.tolerance:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return self.is_on and epoch + 1 >= self.epochs_min and self.waited >= self.patience
