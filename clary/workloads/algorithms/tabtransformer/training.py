"""Training the TabTransformer: epochs until the validation data is no longer done better."""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score, r2_score
from torch.nn import functional

from clary.workloads.algorithms.errors import AlgorithmError
from clary.workloads.algorithms.job import Job, log
from clary.workloads.algorithms.tabtransformer import encoding
from clary.workloads.algorithms.tabtransformer.network import Shape, TabTransformer
from clary.workloads.algorithms.tabular import frames, model_document, problems
from clary.workloads.algorithms.tabular.declaration import Defaulted
from clary.workloads.algorithms.tabular.preparation import prepare
from clary.workloads.algorithms.tabular.problems import Problem

WEIGHTS = "model.pt"
SEED = 0
GRADIENT_NORM_MAX = 1.0
METRICS = {"regression": "r2", "binary": "f1", "multiclass": "accuracy"}


def train(job: Job, hyperparameters: Defaulted) -> None:
    """Train on the first host, on its GPU if it has one."""
    prepared = prepare(job, hyperparameters, "TabTransformer")
    if prepared is None:
        return
    training, validation, problem = prepared.training, prepared.validation, prepared.problem
    columns = encoding.learn(training.features, prepared.categorical)
    torch.manual_seed(SEED)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    log(
        f"Train {problem.kind} on {training.count} rows with {len(columns.categorical)} "
        f"categorical and {len(columns.numeric)} numeric features, validate on {validation.count} rows, "
        f"on {device}"
    )
    values = job.hyperparameters
    shape = Shape(
        cardinalities=columns.cardinalities,
        numbers=len(columns.numeric),
        outputs=1 if problem.is_regression else len(problem.classes),
        input_dim=int(values["input_dim"]),
        n_blocks=values["n_blocks"],
        attn_dropout=values["attn_dropout"],
        mlp_dropout=values["mlp_dropout"],
        frac_shared_embed=values["frac_shared_embed"],
    )
    fitting = _Fitting(job, problem, TabTransformer(shape).to(device), device)
    fitting.set_label_scale(training.labels)
    fitting.run(fitting.tensors(columns, training), fitting.tensors(columns, validation))
    _save(job, fitting, shape, columns)


class _Fitting:
    """One training: the network, its optimiser and the best weights so far."""

    def __init__(
        self, job: Job, problem: Problem, network: TabTransformer, device: torch.device
    ) -> None:
        self.job, self.problem, self.network, self.device = job, problem, network, device
        self.label_mean, self.label_deviation = 0.0, 1.0

    def set_label_scale(self, labels: np.ndarray) -> None:
        if self.problem.is_regression:
            self.label_mean = float(labels.mean())
            self.label_deviation = float(labels.std()) or 1.0

    def tensors(self, columns: encoding.Encoding, frame: frames.Frame) -> tuple[torch.Tensor, ...]:
        table = [frame.features[at].to_numpy() for at in range(columns.features)]
        codes, numbers = columns.encode(table)
        labels = self.problem.encoded(frame.labels)
        if self.problem.is_regression:
            scaled = (labels.astype(np.float64) - self.label_mean) / self.label_deviation
            return codes, numbers, torch.from_numpy(scaled.astype(np.float32))
        return codes, numbers, torch.from_numpy(labels.astype(np.int64))

    def run(self, training: tuple[torch.Tensor, ...], validation: tuple[torch.Tensor, ...]) -> None:
        values = self.job.hyperparameters
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=values["learning_rate"])
        best, best_weights, waited = -np.inf, None, 0
        name = METRICS[self.problem.kind]
        for epoch in range(values["n_epochs"]):
            started = time.monotonic()
            loss = self._epoch(optimizer, training)
            valid_loss, score = self._score(validation)
            print(f"epoch {epoch + 1} train: loss={loss:.6f}")
            print(
                f"epoch {epoch + 1} valid: loss={valid_loss:.6f}, metrics={{'{name}': {score:.6f}}}"
            )
            log(f"Epoch {epoch + 1} took {time.monotonic() - started:.2f} s")
            if score > best:
                best, waited = score, 0
                best_weights = copy.deepcopy(self.network.state_dict())
            else:
                waited += 1
            if waited >= values["patience"]:
                log(f"The {name} has not improved for {waited} epochs")
                break
        if best_weights is None:
            raise AlgorithmError(
                "Training diverged: the score of the validation data is no number."
            )
        self.network.load_state_dict(best_weights)

    def _epoch(self, optimizer: torch.optim.Optimizer, data: tuple[torch.Tensor, ...]) -> float:
        self.network.train()
        order = torch.randperm(len(data[2]))
        total = 0.0
        for rows in order.split(self.job.hyperparameters["batch_size"]):
            codes, numbers, labels = (one[rows].to(self.device) for one in data)
            loss = self._loss(self.network(codes, numbers), labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM_MAX)
            optimizer.step()
            total += loss.item() * len(rows)
        return total / len(order)

    def _loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.problem.is_regression:
            return functional.mse_loss(outputs[:, 0], labels)
        return functional.cross_entropy(outputs, labels)

    def _score(self, data: tuple[torch.Tensor, ...]) -> tuple[float, float]:
        """The loss and the metric."""
        self.network.eval()
        size = self.job.hyperparameters["batch_size"]
        with torch.inference_mode():
            parts = [
                self.network(codes.to(self.device), numbers.to(self.device)).cpu()
                for codes, numbers in zip(data[0].split(size), data[1].split(size))  # noqa: B905
            ]
        outputs = torch.cat(parts)
        loss = float(self._loss(outputs, data[2]))
        labels = data[2].numpy()
        if not torch.isfinite(outputs).all():
            return loss, float("nan")
        if self.problem.is_regression:
            return loss, float(r2_score(labels, outputs[:, 0].numpy()))
        found = outputs.argmax(dim=1).numpy()
        if self.problem.kind == problems.BINARY:
            return loss, float(f1_score(labels, found, zero_division=0))
        return loss, float(accuracy_score(labels, found))


def _save(job: Job, fitting: _Fitting, shape: Shape, columns: encoding.Encoding) -> None:
    job.model.mkdir(parents=True, exist_ok=True)
    staging = job.model / f".{WEIGHTS}.writing"
    weights: dict[str, Any] = fitting.network.to("cpu").state_dict()
    torch.save(weights, staging)
    staging.replace(job.model / WEIGHTS)
    document = {
        "algorithm": "tabtransformer",
        "shape": shape.as_document(),
        "columns": columns.as_document(),
        "label_mean": fitting.label_mean,
        "label_deviation": fitting.label_deviation,
        **fitting.problem.as_document(),
    }
    model_document.save(job.model, document)
    log(f"Stored trained model at {job.model / WEIGHTS}")
