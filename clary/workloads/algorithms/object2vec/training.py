"""Training Object2Vec: two encoders and a judge of pairs, together, by gradient descent."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.first_party import device, gradients
from clary.workloads.algorithms.first_party.errors import ClientError
from clary.workloads.algorithms.first_party.session import Session, no_examples, session
from clary.workloads.algorithms.job import Job
from clary.workloads.algorithms.object2vec import SOFTMAX, pairs, pretrained
from clary.workloads.algorithms.object2vec.network import PairNetwork

SEED = 0
PAIRS_AT_ONCE = 512


def train(job: Job, algorithm: Algorithm) -> None:
    if len(job.hosts) > 1:
        raise ClientError("Object2Vec trains on a single instance; set InstanceCount to 1.")
    with session(job, algorithm) as run:
        values = run.values
        classes = values["num_classes"] if values["output_layer"] == SOFTMAX else None
        found = {}
        for name in ("train", "validation", "test"):
            if name in job.channels:
                found[name] = pairs.read(job.channels[name], pairs.sides(values), classes)
                run.log.say(f"Read {found[name].count} pairs of channel '{name}'")
        if not found["train"].count:
            raise no_examples()
        trainer = Trainer(run)
        started = time.monotonic()
        epochs = trainer.fit(found["train"], found.get("validation"))
        run.finished(found["train"].count * epochs, time.monotonic() - started)
        trainer.report("train", trainer.trained)
        for name in ("validation", "test"):
            if name in found and found[name].count:
                trainer.report(name, trainer.judge(found[name]))
        run.save(trainer.network.arrays(), values=dict(values))


class Trainer:
    """The network and its optimiser."""

    def __init__(self, run: Session) -> None:
        values = run.values
        self.run, self.values = run, values
        self.softmax = values["output_layer"] == SOFTMAX
        self.device = device.choose(run.job, _values_a_step(values))
        run.log.say(f"Training on {self.device}")
        torch.manual_seed(SEED)
        self.network = PairNetwork(values)
        for side, encoder in zip(("enc0", "enc1"), self.network.encoders):  # noqa: B905
            pretrained.load_into(run, side, encoder)
        self.network.to(self.device)
        self.optimizer = gradients.optimizer(
            values["optimizer"],
            [one for one in self.network.parameters() if one.requires_grad],
            values["learning_rate"],
            values["weight_decay"],
        )
        self.random = np.random.default_rng(SEED)
        self.trained = np.zeros(3)  # the sums of the last epoch

    def fit(self, examples: pairs.Pairs, held_out: pairs.Pairs | None) -> int:
        """The number of epochs until the watched loss fell no more."""
        best, waited, done = np.inf, 0, 0
        for epoch in range(self.values["epochs"]):
            started = time.monotonic()
            self.trained = self._epoch(examples)
            loss = self.report("train", self.trained, epoch)
            if held_out is not None and held_out.count:
                loss = self.report("validation", self.judge(held_out), epoch)
            done = epoch + 1
            self.run.log.progress(done, self.values["epochs"])
            self.run.log.throughput(examples.count, time.monotonic() - started)
            if not np.isfinite(loss):
                raise ClientError(f"The loss is {loss}: a smaller learning_rate keeps it finite.")
            better = loss < best * (1 - self.values["early_stopping_tolerance"])
            waited = 0 if better else waited + 1
            best = min(best, loss)
            if waited >= self.values["early_stopping_patience"]:
                self.run.log.say(f"The loss fell no more for {waited} epochs: training ends early.")
                break
        return done

    def report(self, channel: str, sums: np.ndarray, epoch: int | None = None) -> float:
        """Log the mean loss, and of classes the accuracy; the loss."""
        loss, right, count = sums
        name = "cross_entropy" if self.softmax else "mean_squared_error"
        self.run.log.quality(channel, name, loss / count, maximize=False, epoch=epoch)
        if self.softmax:
            self.run.log.quality(channel, "accuracy", right / count, maximize=True, epoch=epoch)
        return float(loss / count)

    def _epoch(self, examples: pairs.Pairs) -> np.ndarray:
        self.network.train()
        sums = np.zeros(3)
        order = self.random.permutation(examples.count)
        for batch in self._batches(examples, order, self.values["mini_batch_size"], negatives=True):
            self.optimizer.zero_grad()
            loss, part = self._loss(batch)
            loss.backward()
            self.optimizer.step()
            sums += part
        return sums

    @torch.no_grad()
    def judge(self, examples: pairs.Pairs) -> np.ndarray:
        """Sums over held-out pairs: loss, right answers, pairs."""
        self.network.eval()
        order = np.arange(examples.count)
        batches = self._batches(examples, order, PAIRS_AT_ONCE, negatives=False)
        return sum((self._loss(batch)[1] for batch in batches), np.zeros(3))

    def _loss(self, batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, np.ndarray]:
        first, second, labels = (one.to(self.device) for one in batch)
        scores = self.network(first, second)
        right: Any = 0.0
        if self.softmax:
            loss = functional.cross_entropy(scores, labels)
            right = (scores.argmax(dim=1) == labels).sum()
        else:
            loss = functional.mse_loss(scores[:, 0], labels)
        count = len(labels)
        return loss, np.array([float(loss.detach()) * count, float(right), count])

    def _batches(
        self, examples: pairs.Pairs, order: np.ndarray, size: int, *, negatives: bool
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        rate = self.values["negative_sampling_rate"] if negatives else 0
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            # Pairs that were made up belong to class 0, or have the number 0.
            seconds = [
                chosen,
                *(self.random.integers(0, examples.count, len(chosen)) for _ in range(rate)),
            ]
            labels = np.zeros(len(chosen) * (1 + rate), dtype=examples.labels.dtype)
            labels[: len(chosen)] = examples.labels[chosen]
            yield (
                pairs.padded(
                    [examples.first[at] for at in np.tile(chosen, 1 + rate)],
                    self.network.padding(0),
                ),
                pairs.padded(
                    [examples.second[at] for at in np.concatenate(seconds)],
                    self.network.padding(1),
                ),
                torch.from_numpy(labels),
            )


def _values_a_step(values: Mapping[str, Any]) -> int:
    """How many numbers of embeddings a batch holds at the most."""
    tokens = values["mini_batch_size"] * values["enc0_max_seq_len"]
    return tokens * values["enc0_token_embedding_dim"]
