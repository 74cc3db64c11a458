"""What happens after each round: the line of metrics, the checkpoint, the answer to SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xgboost.callback import TrainingCallback

from clary.workloads.algorithms.gradient_boosting import model_files


def metric_line(iteration: int, scores: Sequence[tuple[str, str, float]]) -> str:
    """`[0]\\ttrain-rmse:0.10000\\tvalidation-rmse:0.20000`."""
    parts = "".join(f"\t{data}-{name}:{value:.5f}" for data, name, value in scores)
    return f"[{iteration}]{parts}"


def print_line(line: str) -> None:
    """Metrics are scraped while training runs, so nothing may wait in a buffer."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class InOrder(TrainingCallback):
    """Runs callbacks one after the other, all of them in every round.

    The library keeps callbacks in a set and stops at the first that ends training, which would
    lose the line and the checkpoint of the last round.
    """

    def __init__(self, callbacks: Sequence[Any]) -> None:
        super().__init__()
        self.callbacks = callbacks

    def before_training(self, model: Any) -> Any:
        for one in self.callbacks:
            model = one.before_training(model)
        return model

    def after_training(self, model: Any) -> Any:
        for one in self.callbacks:
            model = one.after_training(model)
        return model

    def before_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        ends = [one.before_iteration(model, epoch, evals_log) for one in self.callbacks]
        return any(ends)

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        ends = [one.after_iteration(model, epoch, evals_log) for one in self.callbacks]
        return any(ends)


class MetricLines(TrainingCallback):
    """Prints the metrics of each round; counts on from the checkpoint that training resumed."""

    def __init__(self, first_iteration: int, is_first_host: bool) -> None:
        super().__init__()
        self.first_iteration = first_iteration
        self.is_first_host = is_first_host

    def after_iteration(
        self, model: Any, epoch: int, evals_log: Mapping[str, Mapping[str, Sequence[Any]]]
    ) -> bool:
        if self.is_first_host:
            scores = [
                (data, name, float(_plain(values[-1])))
                for data, metrics in evals_log.items()
                for name, values in metrics.items()
            ]
            print_line(metric_line(self.first_iteration + epoch, scores))
        return False


def _plain(value: Any) -> float:
    """Cross validation inside the library pairs a value with its deviation."""
    return value[0] if isinstance(value, tuple) else value


class Checkpoints(TrainingCallback):
    """Keeps the newest models in the folder that the platform copies away while training runs."""

    def __init__(self, folder: Path, first_iteration: int, is_first_host: bool) -> None:
        super().__init__()
        self.folder = folder
        self.first_iteration = first_iteration
        self.is_first_host = is_first_host

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        if self.is_first_host:
            path = model_files.checkpoint(self.folder, self.first_iteration + epoch)
            model_files.save(model, path)
            kept = model_files.checkpoints(self.folder)
            for _, old in kept[: -model_files.CHECKPOINTS_KEPT]:
                old.unlink(missing_ok=True)
        return False


class Termination(TrainingCallback):
    """Ends training after the current round once SIGTERM has come, so that the model is whole."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = False

    def install(self) -> None:
        """Listen for SIGTERM; signals only reach the main thread."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        return self.asked
