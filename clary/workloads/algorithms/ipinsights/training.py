"""Training IP Insights: pairs that were seen against pairs that were made up.

Each seen pair meets `random_negative_sampling_rate` addresses drawn from all there are, and
`shuffled_negative_sampling_rate` addresses of other pairs of its batch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from clary.workloads.algorithms.algorithm import Algorithm
from clary.workloads.algorithms.first_party import device
from clary.workloads.algorithms.first_party.session import Session, no_examples, session
from clary.workloads.algorithms.ipinsights import events
from clary.workloads.algorithms.ipinsights.network import Affinity
from clary.workloads.algorithms.job import Job

SEED = 0
ROWS_AT_ONCE = 65536


@dataclass
class Tally:
    """Sums over the pairs of an epoch or of some batches."""

    loss: float = 0.0
    right: float = 0.0
    pairs: int = 0

    def add(self, other: Tally) -> None:
        self.loss += other.loss
        self.right += other.right
        self.pairs += other.pairs


class Trainer:
    """The network of one host and its optimisers."""

    def __init__(self, run: Session) -> None:
        values = run.values
        self.run, self.values = run, values
        self.device = device.choose(run.job, _values_a_step(values))
        torch.manual_seed(SEED)  # all hosts start from the same weights
        self.network = Affinity(
            values["num_entity_vectors"], values["vector_dim"], values["num_ip_encoder_layers"]
        ).to(self.device)
        rate, decay = values["learning_rate"], values["weight_decay"]
        encoder = self.network.encoder.parameters()
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Adam(encoder, lr=rate, weight_decay=decay),
            torch.optim.SparseAdam(self.network.entities.parameters(), lr=rate),
        )
        self.random = np.random.default_rng(SEED + run.group.rank)

    def step(self, entities: np.ndarray, addresses: np.ndarray) -> Tally:
        """Learn from one batch of seen pairs."""
        seen = len(entities)
        addresses, copies = self._with_negatives(addresses)
        rows = torch.from_numpy(np.tile(entities, copies)).to(self.device)
        bits = torch.from_numpy(events.address_bits(addresses)).to(self.device)
        truth = torch.zeros(len(rows), device=self.device)
        truth[:seen] = 1.0
        scores = self.network(rows, bits)
        # Of an empty batch the mean would not be a number.
        total = functional.binary_cross_entropy_with_logits(scores, truth, reduction="sum")
        loss = total / max(len(rows), 1)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        (loss + self._decay(rows[:seen])).backward()
        self._average_gradients()
        for optimizer in self.optimizers:
            optimizer.step()
        right = ((scores > 0) == (truth > 0)).sum()
        return Tally(float(total.detach()), float(right), len(rows))

    def _with_negatives(self, addresses: np.ndarray) -> tuple[np.ndarray, int]:
        parts = [addresses]
        for _ in range(self.values["random_negative_sampling_rate"]):
            parts.append(random_addresses(self.random, len(addresses)))
        for _ in range(self.values["shuffled_negative_sampling_rate"]):
            parts.append(self.random.permutation(addresses))
        return np.concatenate(parts), len(parts)

    def _decay(self, rows: torch.Tensor) -> torch.Tensor:
        """The weight decay of the entities in a batch: the optimiser of sparse rows has none."""
        vectors = self.network.entities(rows)
        return 0.5 * self.values["weight_decay"] * (vectors**2).sum() / max(len(rows), 1)

    def _average_gradients(self) -> None:
        group = self.run.group
        if group.size == 1:
            return
        for parameter in self.network.encoder.parameters():
            assert parameter.grad is not None
            total = group.sum(parameter.grad.cpu().numpy())
            parameter.grad.copy_(torch.from_numpy(total / group.size))
        table = self.network.entities.weight
        assert table.grad is not None
        sparse = table.grad.coalesce().cpu()
        rows = self._all(sparse.indices()[0].numpy())
        vectors = self._all(sparse.values().numpy()) / group.size
        table.grad = torch.sparse_coo_tensor(
            torch.from_numpy(rows)[None], torch.from_numpy(vectors), table.shape
        ).to(self.device)

    def _all(self, array: np.ndarray) -> np.ndarray:
        """The arrays of all hosts, one after the other."""
        parts = self.run.group.collect(array)
        return self.run.group.spread(np.concatenate(parts) if parts else None)


def _values_a_step(values: Mapping[str, Any]) -> int:
    copies = values["random_negative_sampling_rate"] + values["shuffled_negative_sampling_rate"]
    return values["mini_batch_size"] * (1 + copies) * values["vector_dim"]


def random_addresses(random: np.random.Generator, count: int) -> np.ndarray:
    return random.integers(0, 1 << 32, count, dtype=np.uint32)


def train(job: Job, algorithm: Algorithm) -> None:
    with session(job, algorithm) as run:
        found = {}
        for name in job.channels:
            found[name] = events.read(job.channels[name], run.values["num_entity_vectors"])
            run.log.say(f"Read {found[name].count} examples of channel '{name}'")
        steps = -(-found["train"].count // run.values["mini_batch_size"])
        steps = run.group.largest(steps)
        if not run.group.sum_of(found["train"].count):
            raise no_examples()
        trainer = Trainer(run)
        run.log.say(f"Training on {trainer.device}")
        started = time.monotonic()
        for epoch in range(run.values["epochs"]):
            _epoch(run, trainer, found["train"], epoch, steps)
            if "validation" in found:
                _validate(run, trainer, found["validation"], epoch)
        run.finished(found["train"].count * run.values["epochs"], time.monotonic() - started)
        run.save(
            trainer.network.arrays(),
            num_entity_vectors=run.values["num_entity_vectors"],
            vector_dim=run.values["vector_dim"],
            num_ip_encoder_layers=run.values["num_ip_encoder_layers"],
        )


def _epoch(run: Session, trainer: Trainer, pairs: events.Events, epoch: int, steps: int) -> None:
    started = time.monotonic()
    order = trainer.random.permutation(pairs.count)
    size, whole, part = run.values["mini_batch_size"], Tally(), Tally()
    for step in range(steps):
        # A host with less data than the others has empty batches at the end: all hosts take
        # the same steps.
        chosen = order[step * size : (step + 1) * size]
        tally = trainer.step(pairs.entities[chosen], pairs.addresses[chosen])
        part.add(tally)
        if step % run.values["batch_metrics_publish_interval"] == 0:
            _report(run, part, f"epoch={epoch}, batch={step} train")
            whole.add(part)
            part = Tally()
    whole.add(part)
    sums = run.group.sum(np.array([whole.loss, whole.right, whole.pairs], dtype=np.float64))
    _report(run, Tally(*sums), f"epoch={epoch}, train")
    run.log.progress(epoch + 1, run.values["epochs"])
    run.log.throughput(pairs.count, time.monotonic() - started)


def _report(run: Session, tally: Tally, place: str) -> None:
    pairs = max(tally.pairs, 1)
    for name, kind, value in (
        ("binary_classification_accuracy", "score", tally.right / pairs),
        ("binary_classification_cross_entropy", "loss", tally.loss / pairs),
    ):
        run.log.say(
            f"#quality_metric: host={run.job.host}, {place} {name} <{kind}>={float(value)!r}"
        )


def _validate(run: Session, trainer: Trainer, pairs: events.Events, epoch: int) -> None:
    """How well pairs that were seen are told from the same entities with random addresses."""
    if not pairs.count:
        return
    made_up = random_addresses(np.random.default_rng(SEED), pairs.count)
    scores = [
        _scores(trainer, pairs.entities, addresses) for addresses in (pairs.addresses, made_up)
    ]
    auc = area_under_curve(*scores)
    run.log.quality("validation", "discriminator_auc", auc, maximize=True, epoch=epoch)


def area_under_curve(seen: np.ndarray, made_up: np.ndarray) -> float:
    """How often a seen pair has the higher score; equal scores count half."""
    ranked = np.sort(made_up)
    below = np.searchsorted(ranked, seen, side="left")
    not_above = np.searchsorted(ranked, seen, side="right")
    return float((below + not_above).mean() / (2 * len(ranked)))


@torch.no_grad()
def _scores(trainer: Trainer, entities: np.ndarray, addresses: np.ndarray) -> np.ndarray:
    parts = []
    for start in range(0, len(entities), ROWS_AT_ONCE):
        end = start + ROWS_AT_ONCE
        rows = torch.from_numpy(entities[start:end]).to(trainer.device)
        bits = torch.from_numpy(events.address_bits(addresses[start:end])).to(trainer.device)
        parts.append(trainer.network(rows, bits).cpu().numpy())
    return np.concatenate(parts)
