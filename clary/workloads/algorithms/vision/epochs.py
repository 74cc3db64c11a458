"""Training epoch by epoch; the model is kept each time that validation finds it the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import nn

from clary.workloads.algorithms.vision import learning
from clary.workloads.algorithms.vision.run import Run


class Trainer(Protocol):
    """The network and which one it is; `first_epoch` is more than 0 after a checkpoint."""

    network: nn.Module
    document: Mapping[str, Any]
    first_epoch: int


def learn(
    around: Run,
    trainer: Trainer,
    metric: str,
    *,
    epoch: Callable[[int], None],
    validate: Callable[[int], float | None],
    keep: Callable[[], None],
) -> None:
    """Until the epochs are over, or `validate` finds no gain; it finds None without its data."""
    stopping = learning.EarlyStopping.of(around.values)
    epochs, best, is_kept = around.values["epochs"], -1.0, False
    for number in range(trainer.first_epoch, epochs):
        epoch(number)
        value = validate(number)
        around.checkpoint(trainer.network, trainer.document, number)
        around.session.log.progress(number + 1, epochs)
        if value is None or value > best:
            best = best if value is None else value
            keep()
            is_kept = True
        if value is not None and stopping.is_over(value, number):
            around.say(f"Early stopping after epoch {number}: no more gain in {metric}")
            break
    if not is_kept:
        keep()
